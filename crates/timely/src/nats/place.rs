//! Where a message is: in its stream, and in what a consumer was given.

/// What the subject for the acknowledgement of a message says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The message's sequence in the stream.
    pub(super) stream: u64,
    /// How many messages the consumer has been given with this one.
    pub(super) consumer: u64,
    /// When the broker stored it, in milliseconds since the Unix epoch.
    pub(super) time: i64,
}

impl Place {
    /// `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<sequence in the
    /// consumer>.<nanoseconds>.<pending>`, or with the domain and the account
    /// before the stream, and anything after.
    pub(super) fn parse(subject: &str) -> Option<Self> {
        let tokens = subject.strip_prefix("$JS.ACK.")?.split('.');
        let before = match tokens.clone().count() {
            7 => 3,
            9.. => 5,
            _ => return None,
        };
        let mut tokens = tokens.skip(before);
        let stream = tokens.next()?.parse().ok()?;
        let consumer = tokens.next()?.parse().ok()?;
        let nanoseconds: i64 = tokens.next()?.parse().ok()?;
        Some(Self { stream, consumer, time: nanoseconds.div_euclid(1_000_000) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let place = Some(Place { stream: 100, consumer: 7, time: 1_790_230_470_084 });
        assert_eq!(Place::parse("$JS.ACK.events.durable.3.100.7.1790230470084404000.42"), place);
        assert_eq!(Place::parse("$JS.ACK._.szMpdrwD.events.durable.3.100.7.1790230470084404000.42"), place);
        assert_eq!(Place::parse("$JS.ACK.hub.szMpdrwD.events.durable.3.100.7.1790230470084404000.42.x.y"), place);
    }

    #[test]
    fn anything_else_is_not() {
        for subject in [
            "",
            "orders",
            "$JS.ACK.",
            "$JS.ACK.a.b.1.2.3.4",
            "$JS.ACK.a.b.1.2.3.4.5.6",
            "$JS.ACK.a.b.1.x.3.4.5",
            "$JS.ACK.a.b.1.2.-3.4.5",
            "$JS.ACK.a.b.1.2.3.99999999999999999999.5",
        ] {
            assert_eq!(Place::parse(subject), None, "{subject}");
        }
    }
}
