// Tandem — Apache-2.0

import TestSupport

typealias Request = StepHarnessRequest
