// Tandem — Apache-2.0
#include "sites.hpp"

#include <cstring>
#include <deque>
#include <mutex>
#include <string>

namespace emulator {

namespace {
std::mutex mutex;
/// Names stay where they are, because they are handed out.
std::deque<std::string> &names() {
    static std::deque<std::string> names;
    return names;
}
}  // namespace

int32_t siteNumber(const char *kind, const char *file, int line) {
    const char *slash = strrchr(file, '/');
    const std::string name = std::string(kind) + " " + (slash ? slash + 1 : file) + ":" + std::to_string(line);
    const std::lock_guard<std::mutex> lock(mutex);
    for (size_t i = 0; i < names().size(); i++)
        if (names()[i] == name) return static_cast<int32_t>(i);
    names().push_back(name);
    return static_cast<int32_t>(names().size()) - 1;
}

int32_t siteCount() {
    const std::lock_guard<std::mutex> lock(mutex);
    return static_cast<int32_t>(names().size());
}

const char *siteName(int32_t site) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (site < 0 || static_cast<size_t>(site) >= names().size()) return nullptr;
    return names()[static_cast<size_t>(site)].c_str();
}

}  // namespace emulator
