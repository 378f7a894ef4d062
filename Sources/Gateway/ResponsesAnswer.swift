// Tandem — Apache-2.0

import JSON

/// The output items of a response, made of a choice's pieces in the order in which they come: messages and calls, one
/// at a time.
struct ResponsesAnswer: Sendable {
    enum Status: String, Sendable {
        case inProgress = "in_progress"
        case completed
        case incomplete
    }

    struct Item: Sendable {
        enum Content: Sendable {
            case message(text: String, LogProbabilityText)
            case call(id: String, name: String, arguments: String)
        }

        var content: Content
        var status: Status
    }

    /// What happened to an item, by its position in ``items``.
    enum Event: Sendable {
        case opened(Int)
        case text(Int, String, LogProbabilityText)
        case arguments(Int, String)
        case closed(Int)
    }

    private(set) var items: [Item] = []
    private(set) var finish: ChoiceFinish?
    /// Log-probabilities of tokens that gave no text yet, and may yet turn out to belong to a call.
    private var pending: [LogProbabilityText.Entry] = []

    /// Whether the length limit ended the text.
    var isCut: Bool { finish?.reason == "length" }

    /// Takes the next piece of the choice.
    ///
    /// In a piece, more of the call under way comes first, then text, then calls that begin.
    mutating func add(_ piece: ChoicePiece) -> [Event] {
        var events: [Event] = []
        pending += piece.logProbabilities?.entries ?? []
        for call in piece.calls where call.name == nil { append(arguments: call.arguments, &events) }
        if !piece.text.isEmpty { append(text: piece.text, &events) }
        for call in piece.calls {
            guard let name = call.name else { continue }
            open(.call(id: call.id ?? "", name: name, arguments: ""), &events)
            append(arguments: call.arguments, &events)
        }
        if isCall(items.last) { pending = [] }
        if let finish = piece.finish, self.finish == nil {
            self.finish = finish
            end(&events)
        }
        return events
    }

    private func isCall(_ item: Item?) -> Bool {
        if case .call = item?.content { true } else { false }
    }

    private mutating func append(arguments: String, _ events: inout [Event]) {
        guard !arguments.isEmpty, let last = items.indices.last,
            case .call(let id, let name, var known) = items[last].content
        else { return }
        // So that the text has one owner, and grows in place.
        items[last].content = .call(id: id, name: name, arguments: "")
        known += arguments
        items[last].content = .call(id: id, name: name, arguments: known)
        events.append(.arguments(last, arguments))
    }

    /// - Parameter text: may be empty where log-probabilities are left to show.
    private mutating func append(text: String, _ events: inout [Event]) {
        if items.isEmpty || isCall(items.last) {
            open(.message(text: "", LogProbabilityText(entries: [], textOffset: 0)), &events)
        }
        let last = items.count - 1
        guard case .message(var known, var shown) = items[last].content else { return }
        items[last].content = .message(text: "", LogProbabilityText(entries: [], textOffset: 0))
        known += text
        shown.entries += pending
        items[last].content = .message(text: known, shown)
        events.append(.text(last, text, LogProbabilityText(entries: pending, textOffset: 0)))
        pending = []
    }

    private mutating func open(_ content: Item.Content, _ events: inout [Event]) {
        close(.completed, &events)
        items.append(Item(content: content, status: .inProgress))
        events.append(.opened(items.count - 1))
    }

    /// Closes the last item, if it is open.
    private mutating func close(_ status: Status, _ events: inout [Event]) {
        guard let last = items.indices.last, items[last].status == .inProgress else { return }
        items[last].status = status
        // Whatever ended a call, it is whole if its arguments are.
        if case .call(_, _, let arguments) = items[last].content {
            items[last].status = (try? JSONParser.parse(Array(arguments.utf8))) == nil ? .incomplete : .completed
        }
        events.append(.closed(last))
    }

    private mutating func end(_ events: inout [Event]) {
        // An answer of nothing is a message of nothing.
        if items.isEmpty {
            open(.message(text: "", LogProbabilityText(entries: [], textOffset: 0)), &events)
        }
        if !pending.isEmpty { append(text: "", &events) }
        close(isCut ? .incomplete : .completed, &events)
    }

    /// The rest cannot be had.
    mutating func fail() {
        if let last = items.indices.last, items[last].status == .inProgress { items[last].status = .incomplete }
    }
}
