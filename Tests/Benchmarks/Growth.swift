import Arguments
import Posix

/// How much a store grows by the dumps of a database that changes a little every day: each day 0.1 % of the rows
/// change and 0.5 % come, and the dump is backed up. PostgreSQL writes a changed row elsewhere, so that the order of
/// rows in the dump changes too, as it does in life.
struct Growth {
    let settings: Settings
    let folder: String

    func measure(into report: inout Report) throws {
        let server = try SSHServer(folder: "\(folder)/ssh")
        defer { server.stop() }
        let holdfast = try Holdfast(settings, server: server, folder: "\(folder)/holdfast")
        defer { holdfast.stop() }
        let library = try Library("dumps", in: "\(folder)/vm")
        try holdfast.database.execute(
            """
            CREATE TABLE holdfast_growth AS SELECT gen_random_uuid() AS id, \(Self.columns) \
            FROM generate_series(1, \(settings.dumpRows)) AS n
            """
        )
        try holdfast.prepare(library)
        var before = holdfast.stored(library)
        var plain = 0
        for day in 1...settings.dumps {
            if day > 1 {
                try holdfast.database.execute(
                    "UPDATE holdfast_growth SET rating = rating + 1, modified = now() WHERE random() < 0.001"
                )
                try holdfast.database.execute(
                    """
                    INSERT INTO holdfast_growth SELECT gen_random_uuid(), \(Self.columns) \
                    FROM generate_series(1, \(settings.dumpRows) / 200) AS n
                    """
                )
                try holdfast.database.execute("VACUUM ANALYZE holdfast_growth")
            }
            let size = try holdfast.database.dumpedBytes()
            let cost = try holdfast.backUp(library)
            let after = holdfast.stored(library)
            plain += size
            if day == 1 { report.add("first dump", holdfast.name, cost, bytes: size, stored: after) }
            report.notes.append(
                "day \(day): a dump of \(Human.bytes(size)) in \(Human.fixed(cost.seconds, 2)) s; the store grew by "
                    + "\(Human.bytes(after - before)), \(Human.fixed(Double(after - before) / Double(size) * 100, 1)) %"
            )
            before = after
        }
        report.notes.append(
            "\(settings.dumps) dumps of \(Human.bytes(plain)) together are kept in \(Human.bytes(before))"
        )
    }

    /// What Immich knows of a photo, in its proportions: mostly identifiers, numbers and times that no two share.
    private static let columns = """
        'Pixel ' || (n % 9) AS model, 'IMG_' || (n::bigint * 7919 % 100000000) || '.jpg' AS "originalFileName", \
        random() * 180 AS latitude, random() * 360 AS longitude, (random() * 4000)::int AS iso, \
        '2015-01-01'::timestamptz + random() * interval '10 years' AS taken, now() AS modified, \
        md5(random()::text) AS checksum, 0 AS rating
        """
}

/// Two hosts that are backed up at the same time, against one alone.
struct Together {
    let settings: Settings
    let folder: String

    func measure(into report: inout Report) throws {
        let server = try SSHServer(folder: "\(folder)/ssh")
        defer { server.stop() }
        let holdfast = try Holdfast(settings, server: server, folder: "\(folder)/holdfast")
        defer { holdfast.stop() }
        var libraries: [Library] = []
        for number in 1...2 {
            var library = try Library("host\(number)", in: "\(folder)/vm")
            let average = settings.bytes / max(1, settings.photos)
            try library.add(settings.photos, average: average, kind: "upload", seed: UInt64(number))
            libraries.append(library)
        }
        for round in 0..<settings.rounds {
            put("round \(round + 1)\n", to: 2)
            try holdfast.prepare(libraries[0])
            let alone = try holdfast.backUp(libraries[0])
            report.add("first, one host", holdfast.name, alone, bytes: libraries[0].bytes)
            for library in libraries { try holdfast.prepare(library) }
            let both = try holdfast.backUpTogether(libraries)
            let bytes = libraries.reduce(0) { $0 + $1.bytes }
            report.add("first, two hosts at once", holdfast.name, both, bytes: bytes)
        }
    }
}
