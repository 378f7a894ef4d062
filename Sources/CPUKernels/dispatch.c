// Tandem — Apache-2.0
#include "CPUKernels.h"
