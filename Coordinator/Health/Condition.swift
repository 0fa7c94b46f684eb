package import Catalogue
package import Fleet

/// Something that is wrong with a host, or with the coordinator itself, and that is found anew whenever it is looked for.
package struct Condition: Sendable, Equatable {
    /// What can be wrong; the word stands in `findings.kind`. Findings of other kinds belong to other parts.
    package enum Kind: String, Sendable, CaseIterable {
        // The clocks.
        case contact, dump, full, proof, drill, copy
        // What else is watched of a host.
        case dumpShrank = "dump-shrank"
        case libraryShrank = "library-shrank"
        case incomplete
        case runFailed = "run-failed"
        case runSlow = "run-slow"
        /// A host's, its machine's or the coordinator's.
        case clock
        case immichVersion = "immich-version"
        case outside
        // Of the coordinator.
        case store
        /// Told by `status` alone: who would write it down does not run.
        case service

        /// Whether a person may close it for good, though what it was found in is still there.
        var canBeSettled: Bool { self == .dumpShrank || self == .libraryShrank || self == .clock }
    }

    package let kind: Kind
    /// What tells two of one kind apart, or nothing.
    package let subject: String
    package let severity: FindingRow.Severity
    /// What is the case, with the actual figure and the limit; no full stop.
    package let fact: String
    /// What to do next.
    package let advice: String
    /// Nothing of the host is forgotten or pruned meanwhile.
    package let freezes: Bool
    /// What it was measured against, in bytes and files.
    package var referenceBytes: Int64?
    package var referenceFiles: Int64?
    /// The moment the data is of in which it was found.
    package var dataOf: Int64?

    package init(
        _ kind: Kind,
        subject: String = "",
        _ severity: FindingRow.Severity,
        _ fact: String,
        advice: String,
        freezes: Bool = false
    ) {
        self.kind = kind
        self.subject = subject
        self.severity = severity
        self.fact = fact
        self.advice = advice
        self.freezes = freezes
    }

    /// A sentence for people.
    package var message: String { advice.isEmpty ? fact : "\(fact); \(advice)" }
}

/// A moment that must not lie too far back.
package enum Clock: String, Sendable, CaseIterable {
    case contact, dump, full, proof, drill, copy

    /// Those that count. For the others nothing exists yet that could set them.
    package static let counted: [Clock] = [.contact, .dump, .full]

    package func threshold(_ thresholds: Thresholds) -> Threshold {
        switch self {
        case .contact: thresholds.contact
        case .dump: thresholds.dump
        case .full: thresholds.full
        case .proof: thresholds.proof
        case .drill: thresholds.drill
        case .copy: thresholds.copy
        }
    }

    var kind: Condition.Kind {
        switch self {
        case .contact: .contact
        case .dump: .dump
        case .full: .full
        case .proof: .proof
        case .drill: .drill
        case .copy: .copy
        }
    }

    /// `newest dump`.
    package var name: String {
        switch self {
        case .contact: "last contact"
        case .dump: "newest dump"
        case .full: "newest complete backup"
        case .proof: "newest proof"
        case .drill: "newest drill"
        case .copy: "newest copy"
        }
    }
}

/// How a host stands, from well to bad.
package enum Level: String, Sendable, CaseIterable, Comparable {
    case ok
    /// It lacks something that it has until the end of its enrolment to get.
    case new
    case warning, critical

    package init(_ severity: FindingRow.Severity) { self = severity == .critical ? .critical : .warning }

    private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
    package static func < (a: Level, b: Level) -> Bool { a.rank < b.rank }
}
