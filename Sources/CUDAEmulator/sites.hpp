// Tandem — Apache-2.0
//
// Places in the kernels' text at which tests can take an instruction away.
#pragma once
#include <cstdint>

namespace emulator {

/// The number of a place; the same place has the same number in all instantiations of a template.
int32_t siteNumber(const char *kind, const char *file, int line);

int32_t siteCount();

/// "kind file:line", or null.
const char *siteName(int32_t site);

}  // namespace emulator

/// The number of the place where this stands.
#define EMULATOR_SITE(kind)                                                           \
    ([]() -> int32_t {                                                                \
        static const int32_t site = ::emulator::siteNumber(kind, __FILE__, __LINE__); \
        return site;                                                                  \
    }())
