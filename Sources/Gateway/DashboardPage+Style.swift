// Tandem — Apache-2.0
extension DashboardPage { static let style = "" }
