// Tandem — Apache-2.0

import Study
import StudyReport

/// What `tandem study --report` does.
enum StudyReportFolder {
    /// Reads the results in folders and writes their report; nothing is written if a result cannot be read.
    ///
    /// - Parameters:
    ///   - folders: of results, as `tandem study --out` made them, simulated and measured ones in any order.
    ///   - path: the report's folder; null for `report` in the first of those.
    /// - Returns: the page that was written.
    static func write(_ folders: [String], to path: String?) throws(StudyError) -> String {
        let results = try ResultFiles.read(folders)
        let files = try StudyReport(results).document().files()
        let path = path ?? "\(folders.first ?? ".")/report"
        try ReportFolder.write(files, to: path)
        return "\(path)/index.html"
    }
}
