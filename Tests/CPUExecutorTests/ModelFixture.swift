// Tandem — Apache-2.0

import Foundation
import TestSupport

extension ModelFixture {
    /// The content of a file below `Tests/Fixtures`.
    static func data(_ name: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: fixturePath(name)))
    }
}
