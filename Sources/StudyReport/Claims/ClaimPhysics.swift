// Tandem — Apache-2.0

internal import LanguageModel
internal import Study

/// What is known of claims apart from a study's numbers: whether they follow from how a GPU works.
enum ClaimPhysics {
    /// - Parameter group: the number before the letter.
    static func remark(_ group: String) -> String? {
        switch group {
        case "4":
            """
            A second engine can recover what the first leaves idle: the host's time between steps, and the launches and \
            last waves of kernels. On a measured H100 two decode loops that never wait for a host gained \
            \(ReferenceProbe.range(.decode)) under MPS. A gain of 50 % therefore needs a host that leaves the GPU idle for at \
            least half as long as it computes, even if sharing costs nothing, and longer if the batch is split; the article \
            states neither. That gains fall \
            with context and size follows: steps grow longer and the host's share smaller. That they fall on a straight \
            line over the logarithm of the context does not: keys and values grow with the context itself. Losses come \
            from memory, where two copies of the weights leave fewer sequences, and from MPS, which makes each kernel slower.
            """
        case "5":
            """
            This does not follow for any reason that lies in the GPU. Two engines gain 100 % at most wherever a step's cost grows \
            no faster than its work, and a prefill step keeps the tensor cores busy; measured H100 loops of prefill \
            gained \(ReferenceProbe.range(.prefill)). A front end that each engine has for itself, and that is the bottleneck, gives \
            100 % exactly.
            """
        case "7":
            """
            Measured H100 loops without attention (3B, decode) gained \(ReferenceProbe.range(.decode, .mlpOnly)).
            """
        case "8":
            """
            Without a host this does not follow: measured H100 loops without MLP (3B, decode) gained \
            \(ReferenceProbe.range(.decode, .attentionOnly)). With one, attention alone gains more because its steps are shorter and \
            the host's share of them larger: it then measures the host, not attention.
            """
        case "9":
            """
            The weighted mean is never below the gain of times that add up, so a part of "slightly above" is arithmetic. The \
            rest depends on the host, whose time both parts are charged in full.
            """
        case "10":
            """
            The article states neither lengths nor host times, and the gains depend on both: near equality is a property of \
            its workload, not a law.
            """
        default: nil
        }
    }
}
