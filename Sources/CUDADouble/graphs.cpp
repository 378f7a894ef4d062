// Tandem — Apache-2.0

// Graphs made by capture. A graph that can be started has its own copy of the nodes, arguments included.

#include "double.hpp"

namespace cuda_double {
namespace {

/// What can be started.
struct Executable {
    std::shared_ptr<const std::vector<Node>> nodes;
};

/// Most nodes of which each starts before the one before it has ended.
constexpr size_t longest_chain = 4;

/// Runs nodes first ..< end, each of which but the first may start early: the last one begins, and what is before it runs
/// when it waits for that.
int run_chain(const std::vector<Node> &nodes, size_t first, size_t end) {
    if (end - first == 1) return nodes[first].work();
    return nodes[end - 1].early([&] { return run_chain(nodes, first, end - 1); });
}

int run_nodes(const std::vector<Node> &nodes) {
    for (size_t first = 0; first < nodes.size();) {
        size_t end = first + 1;
        while (end < nodes.size() && nodes[end].early && end - first < longest_chain) end++;
        if (int code = run_chain(nodes, first, end)) return code;
        first = end;
    }
    return success;
}

Handles<Graph> &graphs() {
    static auto *handles = new Handles<Graph>(4);
    return *handles;
}

Handles<Executable> &executables() {
    static auto *handles = new Handles<Executable>(5);
    return *handles;
}
}  // namespace

uint64_t add_graph(std::shared_ptr<Graph> graph) { return graphs().add(std::move(graph)); }

}  // namespace cuda_double

using namespace cuda_double;

EXPORTED int cuGraphGetNodes(uint64_t handle, uint64_t *nodes, size_t *count) {
    if (int status = ready()) return status;
    auto graph = graphs().find(handle);
    if (!graph) return invalid_handle;
    for (size_t i = 0; nodes && i < *count; i++) nodes[i] = i < graph->nodes.size() ? handle + i + 1 : 0;
    if (!nodes || *count > graph->nodes.size()) *count = graph->nodes.size();
    return success;
}

EXPORTED int cuGraphDestroy(uint64_t handle) { return graphs().remove(handle) ? success : invalid_handle; }

EXPORTED int cuGraphInstantiateWithFlags(uint64_t *handle, uint64_t graph_handle, unsigned long long flags) {
    if (int status = ready()) return status;
    auto graph = graphs().find(graph_handle);
    if (!graph) return invalid_handle;
    if (flags > 15) return invalid_value;
    if (int code = planned_fault("instantiate")) return code;
    auto executable = std::make_shared<Executable>();
    executable->nodes = std::make_shared<const std::vector<Node>>(graph->nodes);
    *handle = executables().add(executable);
    return success;
}

EXPORTED int cuGraphExecDestroy(uint64_t handle) { return executables().remove(handle) ? success : invalid_handle; }

EXPORTED int cuGraphUpload(uint64_t handle, uint64_t stream_handle) {
    if (int status = ready()) return status;
    return executables().find(handle) && stream(stream_handle) ? success : invalid_handle;
}

EXPORTED int cuGraphLaunch(uint64_t handle, uint64_t stream_handle) {
    if (int status = ready()) return status;
    auto executable = executables().find(handle);
    auto target = stream(stream_handle);
    if (!executable || !target) return invalid_handle;
    if (int code = planned_fault("launch", Seen::at_once)) return code;
    return submit(*target, [nodes = executable->nodes] { return run_nodes(*nodes); });
}
