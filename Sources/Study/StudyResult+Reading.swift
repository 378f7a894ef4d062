// Tandem — Apache-2.0

extension StudyResult {
    /// Reads a figure's file.
    ///
    /// - Parameters:
    ///   - bytes: all of it.
    ///   - name: for messages: its path.
    ///   - mayBeCut: whether the last line may be unfinished, as after a loss of power; it is left out then.
    /// - Throws: ``StudyError`` naming the line at fault.
    public init(lines bytes: [UInt8], name: String, mayBeCut: Bool = false) throws(StudyError) {
        var header: StudyHeader?
        var measurements: [StudyMeasurement] = []
        var counts: [StudyCount] = []
        var seen: Set<Key> = []
        var start = bytes.startIndex
        var number = 0
        while start < bytes.endIndex {
            number += 1
            let place = "\(name), line \(number)"
            guard let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) else {
                if mayBeCut { break }
                throw StudyError(
                    subject: place, reason: "is cut off; run the study again, which goes on where it stopped")
            }
            let record = try StudyRecord(line: bytes[start..<end], name: place)
            start = end + 1
            switch record {
            case .header(let found):
                guard number == 1 else { throw StudyError(subject: place, reason: "is a second header") }
                header = found
                continue
            case .measurement(let measurement):
                guard seen.insert(Key(cell: measurement.cell, repetition: measurement.repetition)).inserted else {
                    throw StudyError(subject: place, reason: "repeats a measurement that stands above it")
                }
                if let header, measurement.cell.figure != header.definition.figure {
                    throw StudyError(
                        subject: place,
                        reason: "belongs to figure \(measurement.cell.figure.prefix(32)), and the file to "
                            + header.definition.figure)
                }
                measurements.append(measurement)
            case .count(let count): counts.append(count)
            }
            guard header != nil else {
                throw StudyError(subject: place, reason: "must be a header; this is no file of a study")
            }
        }
        guard let header else { throw StudyError(subject: name, reason: "has no header; this is no file of a study") }
        self.init(header: header, measurements: measurements, counts: counts)
    }

    private struct Key: Hashable {
        var cell: StudyCell
        var repetition: Int
    }
}
