// Tandem — Apache-2.0

extension DashboardPage {
    /// Continues ``script``: a card a GPU that is watched, with how busy it was in three minutes.
    static let deviceScript = #"""

        const percent = (share) => Math.round(100 * share) + "%";
        const gibibytes = (bytes) => (bytes / 1073741824).toFixed(bytes < 10737418240 ? 1 : 0);
        const work = (gpu) => gpu.simulated ? gpu.steps_per_second : gpu.sm_active == null ? gpu.busy : gpu.sm_active;
        const drawDevices = () => {
          const gpus = last.gpus || [];
          $("gpus").hidden = !gpus.length;
          $("gpus").replaceChildren(...gpus.map((gpu) => {
            const card = make("div", "card gpu"), left = make("div"), right = make("div");
            card.append(make("h2", "", gpu.simulated ? gpu.name || gpu.gpu : "GPU " + gpu.gpu + (gpu.name ? ", " + gpu.name : "")));
            const now = work(gpu), unit = gpu.simulated ? "steps/s" : gpu.sm_active == null ? "of the time busy" : "SM active";
            left.append(make("b", "", now == null ? "–" : gpu.simulated ? number(now) : percent(now)), " ", make("small", "faint", unit));
            drawSpark(left, gpu.gpu, gpu.simulated);
            card.append(left, right);
            for (const [label, key] of [["warps", "sm_occupancy"], ["tensor", "tensor_active"], ["DRAM", "dram_active"]]) {
              if (gpu[key] != null) row(right, label, gpu[key], percent(gpu[key]), css("--accent"));
            }
            if (gpu.memory_total_bytes) {
              row(right, "memory", gpu.memory_used_bytes / gpu.memory_total_bytes,
                gibibytes(gpu.memory_used_bytes) + "/" + gibibytes(gpu.memory_total_bytes), css("--e6"));
            }
            if (gpu.power_watts != null) {
              row(right, "power", gpu.power_watts / (gpu.power_limit_watts || 1000), Math.round(gpu.power_watts) + " W", css("--e1"));
            }
            const facts = [];
            if (gpu.memory_total_bytes) facts.push("memory in GiB");
            if (gpu.temperature_celsius != null) facts.push(gpu.temperature_celsius + " °C");
            if (gpu.sm_clock_megahertz != null) facts.push(gpu.sm_clock_megahertz + " MHz");
            if (gpu.clients != null) facts.push(gpu.clients + (gpu.clients === 1 ? " engine" : " engines"));
            if (gpu.lag != null) facts.push("lag " + percent(gpu.lag));
            if (gpu.clock_limits && gpu.clock_limits.length) facts.push("clock held back: " + gpu.clock_limits.join(", "));
            if (gpu.note) facts.push(gpu.note);
            if (facts.length) card.append(make("div", "facts", facts.join(" · ")));
            if (gpu.last_fault) {
              card.append(make("div", "facts bad", "Error XID " + gpu.last_fault.xid + (gpu.last_fault.text ? ": " + gpu.last_fault.text : "")));
            }
            return card;
          }));
        };
        const drawSpark = (parent, id, scales) => {
          const values = history.filter((point) => point.at >= last.uptime_seconds - 180).map((point) => {
            const gpu = (point.data.gpus || []).find((other) => other.gpu === id);
            return [point.at, gpu ? work(gpu) : null];
          });
          const most = scales ? Math.max(1, ...values.map((value) => value[1] || 0)) : 1;
          const view = svg(parent, "svg", { viewBox: "0 0 180 46", preserveAspectRatio: "none", role: "img",
            "aria-label": "How busy it was in three minutes" });
          svg(view, "line", { class: "grid", x1: 0, x2: 180, y1: 45, y2: 45 });
          let path = "", pen = "M";
          for (const [at, value] of values) {
            if (value == null) { pen = "M"; continue; }
            path += pen + (180 - (last.uptime_seconds - at)).toFixed(1) + " " + (44 - Math.min(1, value / most) * 42).toFixed(1);
            pen = "L";
          }
          if (path) svg(view, "path", { class: "line", d: path, stroke: css("--accent"), "vector-effect": "non-scaling-stroke" });
        };
        """#
}
