// Tandem — Apache-2.0

public import NIOCore

/// What a client may ask of the server: sizes in bytes, times of silence.
public struct HTTPLimits: Sendable {
    /// Request line and header fields together; beyond it 431.
    public var maximumHeadBytes = 32 * 1024
    /// The request target alone; beyond it 414.
    public var maximumTargetBytes = 8 * 1024
    /// Number of header fields; beyond it 431.
    public var maximumHeaderFields = 100
    /// A request's body, after chunks are joined; beyond it 413.
    public var maximumBodyBytes = 32 * 1024 * 1024
    /// Bytes of all connections' bodies that have not arrived whole, those beyond ``smallBodyBytes`` of each; 503 when
    /// there are more.
    public var maximumUnfinishedBodyBytes = 512 * 1024 * 1024
    /// A body of which no more has arrived is never refused for the sake of others, and does not count for them.
    public var smallBodyBytes = 64 * 1024
    /// Connections open at a time; one more gets 503 and is closed.
    public var maximumConnections = 16_384
    /// Bytes that wait to be sent to one client before ``HTTPResponder/isWritable`` turns false…
    public var outboundHighWater = 64 * 1024
    /// …and down to which they must fall before it turns true again.
    public var outboundLowWater = 16 * 1024
    /// Bytes that may be written in later turns of the event loop than the one in which ``HTTPResponder/isWritable``
    /// turned false; the connection of a writer that does not mind it is cut. A turn may write any number: that is one
    /// answer, or what an engine sent at once.
    public var maximumOutboundBytes = 1024 * 1024
    /// From the first byte of a request (for the first: from the accept) to the end of its head; beyond it 408.
    public var headerTimeout = TimeAmount.seconds(10)
    /// Silence in the middle of a body; beyond it 408.
    public var bodySilenceTimeout = TimeAmount.seconds(30)
    /// Bytes a second at which a body has to arrive on average, once ``bodySilenceTimeout`` has passed since its head;
    /// below it 408. A client that sends a byte now and then would else hold what it sent for ever.
    public var minimumBodyRate = 500
    /// Silence between two requests; beyond it the connection is closed.
    public var keepAliveTimeout = TimeAmount.seconds(75)
    /// How long a client may take nothing of what waits for it; beyond it the connection is cut.
    public var responseStallTimeout = TimeAmount.seconds(60)
    /// How long a refused client may go on sending before the connection is cut; without that time it would see a reset
    /// in place of the answer.
    public var lingerTimeout = TimeAmount.seconds(2)

    /// The defaults.
    public init() {}
}
