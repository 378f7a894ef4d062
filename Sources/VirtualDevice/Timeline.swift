// Tandem — Apache-2.0

import GPUModel

/// A shared GPU whose time follows a clock: it is computed a little ahead, so that steps can be reported at the moment
/// at which they are done. Times are seconds since any fixed instant; between calls ``advance(to:)`` comes first.
///
/// What was computed ahead is thrown away when a client begins anew, so the stretch is short; a step behind one that
/// runs changes nothing before the end of that one.
struct Timeline {
    /// How far is computed ahead: with thousands of phases a second of each client, a tenth of a step or so.
    static let stretch = 0.0005

    private var present: SharedDevice
    private var ahead: SharedDevice
    /// What is done at the end of the stretch.
    private var completions: [SharedDevice.Completion] = []
    /// Steps of clients that are busy.
    private var waiting: [(program: SharedDevice.Program, client: Int)] = []
    private var isBusy = false

    init(policy: SharingPolicy, parameters: SharingParameters, clients: Int) {
        present = SharedDevice(
            policy: policy, parameters: parameters, shares: Array(repeating: 1, count: clients))
        ahead = present
    }

    /// When ``advance(to:)`` has something to do; null if nothing runs.
    var nextTime: Double? { isBusy ? ahead.now : nil }

    /// Ends of kernels' parts so far, for measuring.
    var eventCount: Int { present.eventCount }

    /// Lets time pass.
    ///
    /// - Returns: what was done by then, in order.
    mutating func advance(to time: Double) -> [SharedDevice.Completion] {
        var done: [SharedDevice.Completion] = []
        while isBusy, ahead.now <= time {
            present = ahead
            done += completions
            for step in waiting { present.submit(step.program, client: step.client) }
            waiting.removeAll(keepingCapacity: true)
            compute()
        }
        return done
    }

    /// Puts a step behind the client's others.
    ///
    /// - Returns: what is done at this very moment, beyond what was returned before.
    mutating func submit(
        _ program: SharedDevice.Program, client: Int, at time: Double
    ) -> [SharedDevice.Completion] {
        if present.isBusy(client) {
            waiting.append((program, client))
            return []
        }
        let done = catchUp(to: time)
        present.submit(program, client: client)
        compute()
        return done
    }

    /// Forgets a client's work.
    mutating func removeWork(of client: Int, at time: Double) -> [SharedDevice.Completion] {
        let done = catchUp(to: time)
        present.removeWork(of: client)
        compute()
        return done
    }

    mutating func setShare(_ share: Double, client: Int, at time: Double) -> [SharedDevice.Completion] {
        let done = catchUp(to: time)
        present.setShare(share, client: client)
        compute()
        return done
    }

    /// Brings the present up to a moment that lies in the stretch.
    private mutating func catchUp(to time: Double) -> [SharedDevice.Completion] {
        var done: [SharedDevice.Completion] = []
        while present.now < time {
            let before = present.now
            done += present.advance(to: time)
            if present.now == before { break }
        }
        for step in waiting { present.submit(step.program, client: step.client) }
        waiting.removeAll(keepingCapacity: true)
        return done
    }

    private mutating func compute() {
        ahead = present
        completions = ahead.advance(to: present.now + Self.stretch)
        // Idle time costs nothing.
        isBusy = !completions.isEmpty || ahead.hasWork
    }
}
