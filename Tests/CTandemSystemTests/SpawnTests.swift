// Tandem — Apache-2.0

import CTandemSystem
import Glibc
import Testing

/// Starts `program` with the default streams of the test and returns what the shim said.
private func spawn(
    _ program: String,
    _ arguments: [String],
    environment: [String] = ["PATH=/usr/bin:/bin"],
    descriptors: [(parent: Int32, child: Int32)] = [],
    adjust: (inout tandem_spawn_options) -> Void = { _ in }
) -> tandem_spawn_result {
    var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    var envp: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    let mappings = descriptors.map { tandem_descriptor_mapping(parent: $0.parent, child: $0.child) }
    return program.withCString { path in
        mappings.withUnsafeBufferPointer { mappings in
            argv.withUnsafeMutableBufferPointer { argv in
                envp.withUnsafeMutableBufferPointer { envp in
                    var options = tandem_spawn_options()
                    options.path = path
                    options.arguments = UnsafePointer(argv.baseAddress)
                    options.environment = UnsafePointer(envp.baseAddress)
                    options.descriptors = mappings.baseAddress
                    options.descriptor_count = Int32(mappings.count)
                    adjust(&options)
                    return tandem_spawn(&options)
                }
            }
        }
    }
}

private func wait(_ child: tandem_spawn_result) -> tandem_exit_status {
    var status = tandem_exit_status(exit_code: -1, signal: -1)
    #expect(tandem_reap(child.pidfd, true, &status) == 1)
    close(child.pidfd)
    return status
}

private func makePipe() -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    // Without close-on-exec: the shim closes it in every child.
    #expect(pipe(&ends) == 0)
    return (ends[0], ends[1])
}

/// Everything until the last writer is gone.
private func drain(_ descriptor: Int32) -> String {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = read(descriptor, &buffer, buffer.count)
        if count < 0 && errno == EINTR { continue }
        guard count > 0 else { break }
        bytes += buffer[..<count]
    }
    close(descriptor)
    return String(decoding: bytes, as: UTF8.self)
}

/// What `script` prints.
private func output(
    of script: String, descriptors: [(parent: Int32, child: Int32)] = [],
    adjust: (inout tandem_spawn_options) -> Void = { _ in }
) -> (text: String, status: tandem_exit_status) {
    let pipe = makePipe()
    let child = spawn(
        "/bin/sh", ["sh", "-c", script], descriptors: descriptors + [(pipe.write, 1)], adjust: adjust)
    close(pipe.write)
    #expect(child.error == 0)
    let text = drain(pipe.read)
    return (text, wait(child))
}

/// True if `descriptor` becomes readable in time.
private func becomesReadable(_ descriptor: Int32, milliseconds: Int32 = 20_000) -> Bool {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    while true {
        let count = poll(&entry, 1, milliseconds)
        if count < 0 && errno == EINTR { continue }
        return count == 1
    }
}

@Suite struct SpawnTests {
    @Test func exitCodeAndSignalAreTold() {
        let exited = output(of: "exit 7").status
        #expect(exited.exit_code == 7 && exited.signal == 0)
        let killed = output(of: "kill -9 $$").status
        #expect(killed.signal == SIGKILL)
    }

    @Test func runningChildIsNotReaped() {
        let input = makePipe()
        let child = spawn("/bin/cat", ["cat"], descriptors: [(input.read, 0)])
        close(input.read)
        var status = tandem_exit_status()
        #expect(tandem_reap(child.pidfd, false, &status) == 0)
        #expect(tandem_pidfd_send_signal(child.pidfd, 0) == 0)
        close(input.write)
        #expect(wait(child).exit_code == 0)
    }

    @Test func missingProgramGivesItsErrno() {
        let child = spawn("/nonexistent/program", ["program"])
        #expect(child.error == ENOENT)
        #expect(child.stage == tandem_spawn_stage_execute)
        #expect(child.pid == 0 && child.pidfd == -1)
        #expect(String(cString: tandem_spawn_stage_name(child.stage)) == "start the program")
    }

    @Test func missingDirectoryAndBadDescriptorAreToldApart() {
        let missing = "/nonexistent".withCString { path in
            spawn("/bin/true", ["true"]) { $0.working_directory = path }
        }
        #expect(missing.error == ENOENT && missing.stage == tandem_spawn_stage_working_directory)
        let bad = spawn("/bin/true", ["true"], descriptors: [(987_654, 3)])
        #expect(bad.error == EBADF && bad.stage == tandem_spawn_stage_descriptors)
    }

    @Test func descriptorsArriveUnderTheirNumbersEvenWhenTheyCross() {
        // Two descriptors that swap places: a naive dup2 loop would lose one of them.
        let first = makePipe()
        let second = makePipe()
        write(first.write, "first", 5)
        write(second.write, "second", 6)
        close(first.write)
        close(second.write)
        let result = output(
            of: "cat /proc/self/fd/\(first.read); echo; cat /proc/self/fd/\(second.read)",
            descriptors: [(second.read, first.read), (first.read, second.read)])
        #expect(result.text == "second\nfirst")
        close(first.read)
        close(second.read)
    }

    @Test func otherDescriptorsAreClosed() {
        // Deliberately without close-on-exec.
        let leaked = dup(0)
        defer { close(leaked) }
        let kept = makePipe()
        let result = output(of: "cd /proc/self/fd && echo *", descriptors: [(kept.read, 5)])
        let seen = result.text.split(whereSeparator: { $0 == " " || $0 == "\n" }).compactMap { Int($0) }
        #expect(seen.contains(5))
        #expect(seen.filter { $0 > 5 && $0 != 255 }.count <= 1)  // the shell's own handle on the directory
        close(kept.read)
        close(kept.write)
    }

    @Test func environmentIsExactlyWhatWasGiven() {
        let pipe = makePipe()
        let child = spawn("/usr/bin/env", ["env"], environment: ["ONLY=this"], descriptors: [(pipe.write, 1)])
        close(pipe.write)
        #expect(drain(pipe.read) == "ONLY=this\n")
        #expect(wait(child).exit_code == 0)
    }

    @Test func affinityAndNiceAndDirectoryApply() {
        var cpus = [Int32](repeating: 0, count: 1024)
        let count = tandem_affinity_get(0, &cpus, 1024)
        #expect(count > 0)
        let last = [cpus[Int(count) - 1]]
        var own: Int32 = 0
        #expect(tandem_thread_get_nice(0, &own) == 0)
        let result = last.withUnsafeBufferPointer { last in
            "/".withCString { root in
                output(of: "grep Cpus_allowed_list /proc/self/status; nice; pwd") {
                    $0.cpus = last.baseAddress
                    $0.cpu_count = 1
                    $0.nice_increment = 3
                    $0.working_directory = root
                }
            }
        }
        #expect(result.text == "Cpus_allowed_list:\t\(last[0])\n\(min(own + 3, 19))\n/\n")
    }

    @Test func processGroupDiesWhole() {
        let pipe = makePipe()
        let child = spawn(
            "/bin/sh", ["sh", "-c", "cat <&3 & cat <&3 & echo started; wait"],
            descriptors: [(pipe.write, 1), (dupNullPipe.read, 3)]
        ) { $0.new_process_group = true }
        close(pipe.write)
        var byte: UInt8 = 0
        #expect(read(pipe.read, &byte, 1) == 1)
        #expect(getpgid(child.pid) == child.pid)
        #expect(kill(-child.pid, SIGKILL) == 0)
        #expect(wait(child).signal == SIGKILL)
        // The pipe ends only when the grandchildren, which hold it too, are gone.
        #expect(drain(pipe.read) == "tarted\n")
    }

    /// A pipe that stays open as long as the tests run: readers wait on it for ever.
    private let dupNullPipe = makePipe()

    @Test func childDiesWithTheThreadThatStartedIt() {
        final class Box: @unchecked Sendable {  // written before the thread ends, read after it was joined
            var child = tandem_spawn_result()
            var input: Int32 = -1
        }
        let box = Box()
        let input = makePipe()
        box.input = input.read
        var thread = pthread_t()
        let context = Unmanaged.passRetained(box).toOpaque()
        #expect(
            pthread_create(
                &thread, nil,
                { raw in
                    let box = Unmanaged<Box>.fromOpaque(raw!).takeRetainedValue()
                    box.child = spawn("/bin/cat", ["cat"], descriptors: [(box.input, 0)]) {
                        $0.parent_death_signal = SIGKILL
                    }
                    return nil
                }, context) == 0)
        pthread_join(thread, nil)
        #expect(box.child.error == 0)
        #expect(becomesReadable(box.child.pidfd))
        #expect(wait(box.child).signal == SIGKILL)
        close(input.read)
        close(input.write)
    }

    @Test func handlersAndMaskAreReset() {
        let signals = [SIGUSR1]
        var before = sigset_t()
        pthread_sigmask(SIG_BLOCK, nil, &before)
        let descriptor = tandem_signal_descriptor(signals, 1)
        defer {
            close(descriptor)
            pthread_sigmask(SIG_SETMASK, &before, nil)
        }
        #expect(descriptor >= 0)
        #expect(tandem_signal_read(descriptor) == 0)
        // Blocked here, deadly there.
        #expect(output(of: "kill -USR1 $$; exit 0").status.signal == SIGUSR1)
        pthread_kill(pthread_self(), SIGUSR1)
        #expect(becomesReadable(descriptor))
        #expect(tandem_signal_read(descriptor) == SIGUSR1)
    }
}
