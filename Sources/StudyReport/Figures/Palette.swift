// Tandem — Apache-2.0

/// Colours of figures. They are custom properties, so that a figure turns dark by itself and a page can set them. Those
/// of series keep 3:1 to both backgrounds and differ for colour-blind eyes; shapes tell series apart beside them.
public enum Palette {
    /// Series that look different.
    public static let count = 8

    static let lightSeries = [
        "#0067a8", "#c8530a", "#00805d", "#a3477f", "#8a6a00", "#5a6470", "#1b87b5", "#7b4bd0",
    ]

    private static func series(_ colors: [String]) -> String {
        colors.enumerated().map { "--f-\($0):\($1)" }.joined(separator: ";")
    }

    static let light = """
        --f-back:#fff;--f-text:#1b2128;--f-faint:#5b6570;--f-grid:#e3e7ec;--f-zero:#8b95a1;--f-soft:#eef1f5;\
        --f-up:#2f6fde;--f-down:#e07b1e;--f-measured:#1a7f42;--f-simulated:#8a3ffc;--f-derived:#5b6570;\
        \(series(lightSeries))
        """

    static let dark = """
        --f-back:#1a2027;--f-text:#e6eaef;--f-faint:#a3adb9;--f-grid:#2f3842;--f-zero:#7b8794;--f-soft:#222a33;\
        --f-up:#3b78e7;--f-down:#c2600c;--f-measured:#4cc38a;--f-simulated:#be95ff;--f-derived:#a3adb9;\
        \(series([
            "#5aaeea", "#ff8a4c", "#3cc99b", "#e58cc0", "#e0b93a", "#a8b3bf", "#86d3f2", "#b99bff",
        ]))
        """

    /// The properties for `:root`, light and dark.
    static let properties = ":root{\(light)}@media (prefers-color-scheme:dark){:root{\(dark)}}"

    /// Rules of a figure's own classes.
    static let rules: String = {
        let series = (0..<count).map { ".f-s\($0){--c:var(--f-\($0))}" }.joined()
        return """
            .f-back{fill:var(--f-back)}.f text{fill:var(--f-text);font-size:12px;\
            font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}\
            .f .f-title{font-size:16px;font-weight:650}.f .f-faint{fill:var(--f-faint)}\
            .f .f-panel{font-size:13px;font-weight:600}.f .f-small{font-size:11px}\
            .f .f-strong{font-weight:600}.f .f-size-11{font-size:11px}.f .f-size-10{font-size:10px}\
            .f .f-size-9{font-size:9px}.f-halo{paint-order:stroke;stroke:var(--f-back);stroke-width:3px}.f-grid{stroke:var(--f-grid);stroke-width:1}\
            .f-zero{stroke:var(--f-zero);stroke-width:1.2}.f-reference{stroke:var(--f-faint);stroke-width:1.2;\
            stroke-dasharray:5 4;fill:none}.f-line{fill:none;stroke:var(--c);stroke-width:2.2;stroke-linejoin:round;\
            stroke-linecap:round}.f-broken{stroke-dasharray:7 5}.f-whisker{stroke:var(--c);stroke-width:1.4;fill:none}\
            .f-band{fill:var(--c);fill-opacity:.18}.f-mark{fill:var(--c);stroke:var(--f-back);stroke-width:1}\
            .f-bar{fill:var(--c)}.f-over{stroke:var(--f-text);stroke-width:1.2;fill:none}\
            .f-up{fill:var(--f-up)}.f-down{fill:var(--f-down)}.f-empty{fill:var(--f-soft)}\
            .f-failed{stroke:var(--f-faint);stroke-width:1.6;fill:none}\
            .f-edge{stroke:var(--f-text);stroke-width:2;fill:none;stroke-linecap:square}.f-dash{stroke-dasharray:1 5}\
            .f-badge{fill:none;stroke-width:1.2}.f .f-badge-text{font-size:10.5px;font-weight:700;letter-spacing:.6px}\
            .f-measured{--c:var(--f-measured)}.f-simulated{--c:var(--f-simulated)}.f-derived{--c:var(--f-derived)}\
            .f-badge{stroke:var(--c)}.f .f-badge-text{fill:var(--c)}\(series)
            """
    }()
}
