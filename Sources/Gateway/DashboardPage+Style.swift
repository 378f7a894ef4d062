// Tandem — Apache-2.0

extension DashboardPage {
    static let style = #"""
        :root {
          --back: #f6f7f9; --card: #fff; --line: #dfe3e8; --text: #1b2128; --faint: #616b77; --good: #1a7f42;
          --warn: #9a6200; --bad: #c22f2f; --accent: #2f6fde; --soft: #eef1f5;
          --e0: #2f6fde; --e1: #e08a1e; --e2: #2a9d6a; --e3: #9a4fd0; --e4: #c9475f; --e5: #2598a8; --e6: #8a8f1f;
          --e7: #75607c; --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --back: #12161b; --card: #1a2027; --line: #2c343d; --text: #e6eaef; --faint: #97a2af; --good: #4cc38a;
            --warn: #e0a43a; --bad: #ff6b6b; --accent: #6ea3ff; --soft: #222a33;
            --e0: #6ea3ff; --e1: #f0a64a; --e2: #4cc38a; --e3: #c08bf0; --e4: #f07f92; --e5: #4fc3d0; --e6: #c5ca55;
            --e7: #b59abd;
          }
        }
        * { box-sizing: border-box; }
        body {
          margin: 0; background: var(--back); color: var(--text);
          font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
        }
        main { max-width: 1180px; margin: 0 auto; padding: 16px; }
        header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; margin-bottom: 14px; }
        h1 { font-size: 20px; margin: 0; }
        h2 { font-size: 13px; font-weight: 600; color: var(--faint); margin: 0 0 10px; }
        .faint { color: var(--faint); }
        .pill { border-radius: 999px; padding: 1px 10px; font-size: 13px; font-weight: 600; border: 1px solid; }
        .good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
        .accent { color: var(--accent); }
        .right { margin-left: auto; }
        .banner {
          border: 1px solid var(--bad); color: var(--bad); background: var(--card); border-radius: 8px;
          padding: 10px 14px; margin-bottom: 14px;
        }
        #keyform { margin-bottom: 14px; }
        [hidden] { display: none !important; }
        .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px; }
        .tiles { display: grid; grid-template-columns: repeat(6, 1fr); gap: 12px; margin-bottom: 12px; }
        .tile b { display: block; font-size: 24px; line-height: 1.2; font-variant-numeric: tabular-nums; }
        .tile small { color: var(--faint); font-variant-numeric: tabular-nums; }
        .two { display: grid; grid-template-columns: 3fr 2fr; gap: 12px; margin-bottom: 12px; }
        .engines {
          display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 12px; margin-bottom: 12px;
        }
        svg { display: block; width: 100%; height: 170px; }
        svg text { fill: var(--faint); font: 11px system-ui, "DejaVu Sans", sans-serif; }
        .grid { stroke: var(--line); stroke-width: 1; }
        .mark { stroke: var(--bad); stroke-width: 1; stroke-dasharray: 3 3; }
        .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
        .legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12px; color: var(--faint); margin-top: 6px; }
        .dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 6px; }
        .head { display: flex; align-items: center; gap: 8px; margin-bottom: 8px; }
        .head b { font-size: 15px; }
        .row {
          display: grid; grid-template-columns: 62px 1fr 58px; gap: 8px; align-items: center; font-size: 13px;
          font-variant-numeric: tabular-nums; margin: 3px 0;
        }
        .row span:first-child { color: var(--faint); }
        .row span:last-child { text-align: right; }
        .bar { height: 7px; border-radius: 4px; background: var(--soft); overflow: hidden; }
        .bar i { display: block; height: 100%; background: var(--good); width: 0; }
        .facts { font-size: 12px; color: var(--faint); margin-top: 8px; overflow-wrap: anywhere; }
        code, .mono { font-family: var(--mono); font-size: 12px; }
        ol { list-style: none; margin: 0; padding: 0; max-height: 250px; overflow: auto; font-size: 13px; }
        li { display: grid; grid-template-columns: 86px 1fr; gap: 10px; padding: 3px 0; }
        li time { color: var(--faint); text-align: right; font-variant-numeric: tabular-nums; }
        textarea, input, select {
          width: 100%; font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line);
          border-radius: 7px; padding: 8px 10px;
        }
        textarea { resize: vertical; min-height: 62px; display: block; }
        .actions { display: flex; flex-wrap: wrap; align-items: center; gap: 8px 12px; margin-top: 8px; }
        .actions select { width: auto; max-width: 100%; }
        button {
          font: inherit; font-weight: 600; border: 0; border-radius: 7px; padding: 7px 16px; cursor: pointer;
          background: var(--accent); color: var(--card);
        }
        button.plain { background: var(--soft); color: var(--text); }
        button:disabled { opacity: .5; cursor: default; }
        :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
        #answer {
          white-space: pre-wrap; overflow-wrap: anywhere; min-height: 60px; max-height: 300px; overflow: auto;
          margin-top: 10px; border-top: 1px solid var(--line); padding-top: 10px;
        }
        .facts.bad { color: var(--bad); }
        .gpu { display: grid; grid-template-columns: 1fr 1fr; gap: 4px 18px; align-content: start; }
        .gpu h2, .gpu .facts { grid-column: 1 / -1; margin: 0; }
        .gpu b { font-size: 24px; line-height: 1.2; font-variant-numeric: tabular-nums; }
        .gpu svg { height: 46px; margin-top: 4px; }
        .stale .live { opacity: .45; }
        @media (max-width: 900px) {
          .tiles { grid-template-columns: repeat(3, 1fr); }
          .two { grid-template-columns: 1fr; }
        }
        @media (max-width: 520px) {
          main { padding: 10px; }
          .tiles { grid-template-columns: repeat(2, 1fr); gap: 8px; }
          .gpu { grid-template-columns: 1fr; }
          .tile b { font-size: 20px; }
          .right { margin-left: 0; }
          li { grid-template-columns: 70px 1fr; }
        }
        """#
}
