// Tandem — Apache-2.0

extension DashboardPage {
    static let script = #"""
        "use strict";
        const $ = (id) => document.getElementById(id);
        const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        const keyName = "tandem-api-key";
        const root = location.pathname.replace(/\/ui\/?$/, "");
        const points = 360;
        let history = [], last = null, lastAt = 0, problem = "", own = null;

        const headers = (more) => {
          const key = sessionStorage.getItem(keyName);
          return Object.assign(key ? { Authorization: "Bearer " + key } : {}, more || {});
        };
        const number = (value) => value < 0.05 ? "0" : value < 9.95 ? value.toFixed(1)
          : value < 99999 ? Math.round(value).toLocaleString("en-US").replace(/,/g, "\u202f")
          : value < 1e6 ? (value / 1e3).toFixed(0) + "k" : (value / 1e6).toFixed(1) + "M";
        const time = (seconds) => seconds == null ? "–" : !seconds ? "0" : seconds < 0.00995 ? (seconds * 1e3).toFixed(1) + " ms"
          : seconds < 0.9995 ? Math.round(seconds * 1e3) + " ms" : seconds.toFixed(1) + " s";
        const span = (seconds) => {
          const s = Math.max(0, Math.floor(seconds));
          return s < 60 ? s + " s" : s < 3600 ? Math.floor(s / 60) + " min " + s % 60 + " s"
            : s < 86400 ? Math.floor(s / 3600) + " h " + Math.floor(s / 60) % 60 + " min"
            : Math.floor(s / 86400) + " d " + Math.floor(s / 3600) % 24 + " h";
        };
        const make = (name, kind, text) => {
          const element = document.createElement(name);
          if (kind) element.className = kind;
          if (text != null) element.textContent = text;
          return element;
        };
        const say = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
        // A counter that began anew has increased by what it shows.
        const increase = (before, after) => after == null ? 0 : before == null || after < before ? after : after - before;
        const name = (engine) => engine.model + " " + engine.index;
        const colour = (index) => css("--e" + index % 8);

        // Quantile of what a histogram counted between two answers, as Prometheus' histogram_quantile.
        const quantile = (before, after, share) => {
          if (!after) return null;
          const counts = after.counts.map((count, i) => increase(before ? before.counts[i] : 0, count));
          const total = counts.reduce((a, b) => a + b, 0);
          if (!total) return null;
          let below = 0;
          for (let i = 0; i < after.bounds.length; i++) {
            if (counts[i] && below + counts[i] >= share * total) {
              const low = i ? after.bounds[i - 1] : 0;
              return low + (after.bounds[i] - low) * (share * total - below) / counts[i];
            }
            below += counts[i];
          }
          return after.bounds[after.bounds.length - 1];
        };
        // The newest answer that is so many seconds old, else the oldest.
        const before = (seconds) => {
          for (let i = history.length - 1; i >= 0; i--) {
            if (last.uptime_seconds - history[i].at >= seconds) return history[i].data;
          }
          return history.length ? history[0].data : null;
        };

        const receive = (data) => {
          if (last && (last.pid !== data.pid || last.uptime_seconds > data.uptime_seconds)) history = [];
          last = data;
          lastAt = Date.now();
          const earlier = before(2), seconds = earlier ? data.uptime_seconds - earlier.uptime_seconds : 0;
          const rates = {};
          for (const engine of data.engines) {
            const old = earlier && earlier.engines.find((e) => name(e) === name(engine));
            const rate = (key) => old && seconds > 0 ? increase(old[key], engine[key]) / seconds : 0;
            rates[name(engine)] = { out: rate("generated_tokens"), steps: rate("steps") };
          }
          const latency = (share) => earlier && quantile(
            earlier.latency.inter_token_latency_seconds, data.latency.inter_token_latency_seconds, share);
          history.push({ at: data.uptime_seconds, data, rates, p50: latency(0.5), p99: latency(0.99) });
          if (history.length > points) history.shift();
          fail("");
          draw(earlier, seconds, rates);
        };

        const fail = (text) => {
          problem = text;
          $("problem").hidden = !text;
          say("problem", text);
          $("page").classList.toggle("stale", !!text);
        };

        const draw = (earlier, seconds, rates) => {
          const data = last, gateway = data.gateway, totals = data.totals;
          const models = [...new Set(data.engines.map((engine) => engine.model))];
          say("models", models.join(", "));
          say("uptime", "version " + data.version + ", up " + span(data.uptime_seconds));
          const serving = $("serving");
          serving.hidden = false;
          serving.className = "pill " + (totals.serving === totals.engines ? "good" : totals.serving ? "warn" : "bad");
          say("serving", totals.serving + " of " + totals.engines + " engines serve");
          document.title = totals.serving + "/" + totals.engines + " Tandem";
          const rate = (key) => earlier && seconds > 0 ? increase(earlier.gateway[key], gateway[key]) / seconds : 0;
          say("out", number(rate("generated_tokens")));
          say("outsum", number(gateway.generated_tokens) + " in all");
          say("in", number(rate("prompt_tokens")));
          say("insum", number(gateway.prompt_tokens) + " in all");
          say("hand", String(gateway.requests));
          say("queued", totals.waiting + " queued" + (gateway.held_sequences ? ", " + gateway.held_sequences + " held" : ""));
          const window = before(10);
          for (const [id, key] of [["ttft", "time_to_first_token_seconds"], ["itl", "inter_token_latency_seconds"]]) {
            const old = window && window !== data ? window.latency[key] : null;
            say(id, old ? time(quantile(old, data.latency[key], 0.5)) : "–");
            const high = old && quantile(old, data.latency[key], 0.99);
            say(id + "99", high == null ? "median, 10 s" : "p99 " + time(high));
          }
          say("lost", String(gateway.failed));
          $("lost").className = gateway.failed ? "bad" : "good";
          say("moved", gateway.finished + " done, " + (gateway.migrations + gateway.retries) + " moved");
          drawThroughput();
          drawLatency();
          drawEngines(rates);
          drawDevices();
          drawEvents();
          drawModels(models);
          drawPlace();
        };

        const svg = (parent, kind, attributes, text) => {
          const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
          for (const key in attributes) element.setAttribute(key, attributes[key]);
          if (text != null) element.textContent = text;
          parent.appendChild(element);
          return element;
        };
        // A frame for values from 0 to `most`; gives back where a point lies.
        const frame = (id, most, label) => {
          const view = $(id), width = view.clientWidth || 600, height = 170;
          view.textContent = "";
          view.setAttribute("viewBox", "0 0 " + width + " " + height);
          const end = last.uptime_seconds, begin = end - 180;
          const left = 46, bottom = height - 18;
          const x = (at) => left + (at - begin) / 180 * (width - left - 4);
          const y = (value) => bottom - value / most * (bottom - 8);
          for (let i = 0; i <= 2; i++) {
            svg(view, "line", { class: "grid", x1: left, x2: width - 4, y1: y(most * i / 2), y2: y(most * i / 2) });
            svg(view, "text", { x: left - 6, y: y(most * i / 2) + 4, "text-anchor": "end" }, label(most * i / 2));
          }
          for (const back of [180, 120, 60, 0]) {
            svg(view, "text", { x: x(end - back), y: height - 3,
              "text-anchor": back === 180 ? "start" : back ? "middle" : "end" }, back ? "−" + back / 60 + " min" : "now");
          }
          for (const event of last.events) {
            if (/lost|silent|failed/.test(event.kind) && event.uptime_seconds > begin) {
              const at = x(event.uptime_seconds);
              svg(view, "line", { class: "mark", x1: at, x2: at, y1: 8, y2: bottom });
            }
          }
          return { view, x, y, begin };
        };
        // 1, 2 or 5 times a power of ten.
        const nice = (value) => {
          const power = Math.pow(10, Math.floor(Math.log10(value)));
          return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
        };
        const drawThroughput = () => {
          const engines = last.engines;
          const sum = (point) => engines.reduce((all, e) => all + ((point.rates[name(e)] || {}).out || 0), 0);
          const { view, x, y, begin } = frame("throughput", nice(Math.max(10, ...history.map(sum))), number);
          const shown = history.filter((point) => point.at >= begin);
          const floor = shown.map(() => 0);
          engines.forEach((engine, index) => {
            const low = shown.map((point, i) => x(point.at).toFixed(1) + "," + y(floor[i]).toFixed(1));
            shown.forEach((point, i) => { floor[i] += (point.rates[name(engine)] || {}).out || 0; });
            const high = shown.map((point, i) => x(point.at).toFixed(1) + "," + y(floor[i]).toFixed(1));
            svg(view, "polygon", { points: high.concat(low.reverse()).join(" "), fill: colour(index), opacity: 0.75 });
          });
          const legend = $("engines-legend");
          legend.textContent = "";
          engines.forEach((engine, index) => {
            const entry = make("span"), dot = make("i", "dot");
            dot.style.background = colour(index);
            entry.append(dot, "engine " + engine.index);
            legend.append(entry);
          });
        };
        const drawLatency = () => {
          const most = nice(Math.max(0.005, ...history.map((point) => point.p99 || 0)));
          const { view, x, y, begin } = frame("latency", most, time);
          for (const [key, ink] of [["p50", "--accent"], ["p99", "--warn"]]) {
            let path = "", pen = "M";
            for (const point of history) {
              if (point.at < begin || point[key] == null) { pen = "M"; continue; }
              path += pen + x(point.at).toFixed(1) + " " + y(point[key]).toFixed(1);
              pen = "L";
            }
            if (path) svg(view, "path", { class: "line", d: path, stroke: css(ink) });
          }
        };

        const row = (card, label, share, text, ink) => {
          const line = make("div", "row"), bar = make("div", "bar"), fill = make("i");
          const percent = Math.min(100, Math.max(0, share * 100));
          fill.style.width = (percent && Math.max(2, percent)) + "%";
          fill.style.background = ink || css(share > 0.9 ? "--bad" : share > 0.7 ? "--warn" : "--good");
          bar.append(fill);
          line.append(make("span", "", label), bar, make("span", "", text));
          card.append(line);
        };
        const drawEngines = (rates) => {
          const total = Object.values(rates).reduce((all, rate) => all + rate.out, 0);
          const several = new Set(last.engines.map((engine) => engine.model)).size > 1;
          const cards = last.engines.map((engine, index) => {
            const card = make("div", "card"), head = make("div", "head"), dot = make("i", "dot");
            dot.style.background = colour(index);
            const reached = engine.serving || engine.state !== "ready";
            const kind = engine.state === "failed" ? "bad" : engine.serving ? "good" : "warn";
            head.append(dot, make("b", "", "Engine " + engine.index),
              make("span", "pill right " + kind, reached ? engine.state : "not reached"));
            card.append(head);
            if (several) card.append(make("div", "facts", engine.model));
            const rate = rates[name(engine)];
            row(card, "tokens/s", total ? rate.out / total : 0, number(rate.out), colour(index));
            row(card, "running", (engine.running || 0) / (engine.max_sequences || 1),
              (engine.running == null ? "–" : engine.running) + (engine.waiting ? " + " + engine.waiting : ""));
            const kv = engine.kv_blocks_total ? (engine.kv_blocks_used || 0) / engine.kv_blocks_total : 0;
            row(card, "KV cache", kv, Math.round(kv * 100) + "%");
            const facts = [];
            if (engine.pid) facts.push("pid " + engine.pid);
            facts.push(number(rate.steps) + " steps/s");
            if (engine.prompt_tokens) {
              facts.push(Math.round(100 * engine.cached_prompt_tokens / engine.prompt_tokens) + "% of prompts cached");
            }
            facts.push(engine.restarts + (engine.restarts === 1 ? " restart" : " restarts"));
            card.append(make("div", "facts", facts.join(" · ")));
            if (engine.device) card.append(make("div", "facts", engine.device));
            if (engine.reason) card.append(make("div", "facts", "Last end: " + engine.reason));
            return card;
          });
          $("engines").replaceChildren(...cards);
        };

        const words = (event) => {
          const engine = "engine " + event.engine, reason = event.reason ? ": " + event.reason : "";
          switch (event.kind) {
            case "engine_ready": return [engine + " serves", "good"];
            case "engine_lost": return [engine + (/^(was|exited) /.test(event.reason) ? " " + event.reason : " was lost" + reason), "bad"];
            case "engine_silent": return [engine + " does not answer" + reason, "bad"];
            case "engine_failed": return [engine + " will not come back" + reason, "bad"];
            case "engine_draining": return [engine + " finishes what it has", "warn"];
            case "engine_removed": return [engine + " was taken away", "warn"];
            case "sequences_moved": return ["of " + engine + "'s sequences " + [
              event.continued && event.continued + " went on elsewhere",
              event.retried && event.retried + " began again elsewhere",
              event.refused && event.refused + " broke off"].filter(Boolean).join(", "),
              event.refused ? "bad" : "accent"];
            default: return [engine + ": " + event.kind + reason, ""];
          }
        };
        const drawEvents = () => {
          $("events").replaceChildren(...last.events.slice().reverse().map((event) => {
            const item = make("li"), [text, kind] = words(event);
            item.append(make("time", "", span(last.uptime_seconds - event.uptime_seconds)), make("span", kind, text));
            return item;
          }));
        };

        // MARK: the stream of pictures

        const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
        // Calls `take` with the payload of each event; fetch and not EventSource, which cannot show a key.
        const readEvents = async (response, take, beat) => {
          const reader = response.body.getReader(), decoder = new TextDecoder();
          let rest = "";
          for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            if (beat) beat();
            rest += decoder.decode(value, { stream: true });
            for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
              const event = rest.slice(0, end);
              if (event.startsWith("data: ")) take(event.slice(6));
            }
          }
        };
        const watch = async () => {
          for (;;) {
            const silence = new AbortController();
            let timer = setTimeout(() => silence.abort(), 5000);
            try {
              const response = await fetch(root + "/ui/events", { headers: headers(), signal: silence.signal });
              if (response.status === 401) {
                clearTimeout(timer);
                await askKey();
                continue;
              }
              if (!response.ok) throw new Error("it answers with status " + response.status);
              await readEvents(response, (text) => receive(JSON.parse(text)), () => {
                clearTimeout(timer);
                timer = setTimeout(() => silence.abort(), 5000);
              });
            } catch (error) { /* shown below */ }
            clearTimeout(timer);
            fail((lastAt ? "The gateway has not answered for " + span((Date.now() - lastAt) / 1000)
              : "The gateway does not answer") + "; trying again.");
            await sleep(1);
          }
        };
        const askKey = () => new Promise((done) => {
          fail(sessionStorage.getItem(keyName) ? "That key is not one of this server's." : "");
          sessionStorage.removeItem(keyName);
          $("keyform").hidden = false;
          $("key").focus();
          $("keyform").onsubmit = (event) => {
            event.preventDefault();
            const key = $("key").value.trim();
            if (!/^[\x21-\x7e]+$/.test(key)) return;
            sessionStorage.setItem(keyName, key);
            $("key").value = "";
            $("keyform").hidden = true;
            done();
          };
        });

        // MARK: the prompt

        const drawModels = (models) => {
          const select = $("model");
          if (select.options.length === models.length) return;
          select.replaceChildren(...models.map((model) => make("option", "", model)));
          select.hidden = models.length < 2;
        };
        const drawPlace = () => {
          if (!own || own.ended) return;
          const place = (last.requests || []).find((request) => request.id === own.id);
          if (!place) return;
          if (own.path[own.path.length - 1] !== place.engine) own.path.push(place.engine);
          const engine = last.engines.find((e) => e.index === place.engine && e.model === place.model);
          own.hint = engine && engine.pid ? "kill -9 " + engine.pid : "";
          drawOwn();
        };
        const drawOwn = () => {
          const seconds = ((own.until || Date.now()) - own.since) / 1000, where = $("where");
          where.replaceChildren();
          const engines = own.path.map((index) => "engine " + index);
          if (engines.length) where.append(make("b", "", (own.ended ? "answered by " : "on ") + engines.join(" → ")), " · ");
          where.append(own.tokens + " tokens, " + seconds.toFixed(1) + " s");
          if (!own.ended && own.hint) where.append(" · ", make("code", "", own.hint));
          if (own.error) where.append(" · ", make("span", "bad", own.error));
        };
        $("ask").onsubmit = async (event) => {
          event.preventDefault();
          if (own && !own.ended) return;
          const stop = new AbortController();
          const random = crypto.getRandomValues(new Uint32Array(2));
          const mine = own = { id: "ui-" + random[0].toString(36) + random[1].toString(36), path: [], tokens: 0,
            since: Date.now(), ended: false, error: "" };
          $("send").disabled = true;
          $("stop").disabled = false;
          $("stop").onclick = () => stop.abort();
          const answer = $("answer");
          answer.textContent = "";
          const text = document.createTextNode("");
          answer.append(text);
          try {
            const response = await fetch(root + "/v1/chat/completions", {
              method: "POST", signal: stop.signal,
              headers: headers({ "Content-Type": "application/json", "X-Request-Id": mine.id }),
              body: JSON.stringify({ model: $("model").value || undefined, stream: true, max_tokens: 1000,
                temperature: 0.8, messages: [{ role: "user", content: $("prompt").value }] }),
            });
            if (!response.ok) {
              const body = await response.json().catch(() => ({}));
              throw new Error((body.error && body.error.message) || "status " + response.status);
            }
            let done = false;
            await readEvents(response, (payload) => {
              if (payload === "[DONE]") { done = true; return; }
              const chunk = JSON.parse(payload);
              if (chunk.error) throw new Error(chunk.error.message);
              const delta = chunk.choices[0] && chunk.choices[0].delta;
              if (!delta || !delta.content) return;
              const follows = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 30;
              mine.tokens++;
              text.appendData(delta.content);
              if (follows) answer.scrollTop = answer.scrollHeight;
              drawOwn();
            });
            if (!done) throw new Error("the stream broke off");
          } catch (error) {
            mine.error = error.name === "AbortError" ? "stopped" : error.message;
          }
          mine.ended = true;
          mine.until = Date.now();
          $("send").disabled = false;
          $("stop").disabled = true;
          drawOwn();
        };

        for (const dot of document.querySelectorAll("[data-colour]")) {
          dot.style.background = "var(" + dot.dataset.colour + ")";
        }
        setInterval(() => { if (last && !problem && Date.now() - lastAt > 4000) fail("The gateway has been silent for "
          + span((Date.now() - lastAt) / 1000) + "."); }, 1000);
        watch();
        """#
}
