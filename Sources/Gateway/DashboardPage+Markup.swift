// Tandem — Apache-2.0

extension DashboardPage {
    static let markup = #"""
        <body><main id="page">
        <header>
          <h1>Tandem</h1><span id="models"></span><span class="pill" id="serving" hidden></span>
          <span class="faint right" id="uptime"></span>
        </header>
        <div class="banner" id="problem" role="alert" hidden></div>
        <form class="card" id="keyform" hidden>
          <label for="key">This server wants an API key. It is kept until this tab is closed.</label>
          <div class="actions"><input id="key" type="password" autocomplete="off"><button>Use it</button></div>
        </form>
        <div class="live">
        <section class="tiles">
          <div class="card tile"><h2>Tokens/s out</h2><b id="out">–</b><small id="outsum"></small></div>
          <div class="card tile"><h2>Tokens/s in</h2><b id="in">–</b><small id="insum"></small></div>
          <div class="card tile"><h2>Requests in hand</h2><b id="hand">–</b><small id="queued"></small></div>
          <div class="card tile"><h2>First token</h2><b id="ttft">–</b><small id="ttft99"></small></div>
          <div class="card tile"><h2>Between tokens</h2><b id="itl">–</b><small id="itl99"></small></div>
          <div class="card tile"><h2>Lost requests</h2><b id="lost">–</b><small id="moved"></small></div>
        </section>
        <section class="engines" id="gpus" hidden></section>
        <section class="two">
          <div class="card"><h2>Generated tokens/s by engine, three minutes</h2>
            <svg id="throughput" role="img" aria-label="Generated tokens a second by engine"></svg>
            <div class="legend" id="engines-legend"></div></div>
          <div class="card"><h2>Time between tokens, three minutes</h2>
            <svg id="latency" role="img" aria-label="Time between tokens"></svg>
            <div class="legend"><span><i class="dot" data-colour="--accent"></i>median</span>
              <span><i class="dot" data-colour="--warn"></i>99th percentile</span></div></div>
        </section>
        <section class="engines" id="engines"></section>
        </div>
        <section class="two">
          <form class="card" id="ask">
            <h2><label for="prompt">Ask something, and kill the engine that answers</label></h2>
            <textarea id="prompt" maxlength="20000">Write a long story about a lighthouse keeper.</textarea>
            <div class="actions">
              <button id="send">Send</button><button class="plain" id="stop" type="button" disabled>Stop</button>
              <select id="model" aria-label="Model" hidden></select>
              <span id="where" class="faint"></span>
            </div>
            <div id="answer" aria-live="off"></div>
          </form>
          <div class="card live"><h2>Events</h2><ol id="events"></ol></div>
        </section>
        <noscript>This page needs JavaScript. The same is at <a href="engines">/engines</a>.</noscript>
        </main>
        """#
}
