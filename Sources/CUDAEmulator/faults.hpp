// Tandem — Apache-2.0
//
// Accesses to memory that is nobody's end a launch, as they do on a GPU, and not the process.
#pragma once

namespace emulator {

/// Makes the process's memory faults end the launch of the thread that has one; those outside launches go where they
/// went before.
void catchFaults();

}  // namespace emulator
