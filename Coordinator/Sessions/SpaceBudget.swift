import Arguments
import Fleet
import Posix
import Repository

/// How much one capture may still store: the host's `size_limit:`, and the free space that stays where the
/// repositories are.
struct SpaceBudget {
    private let host: String
    private let folder: String
    private let limit: Int64?
    private let before: Int64
    private let fleet: FleetConfiguration

    /// Bytes of an index file for one blob, about.
    private static let listing: Int64 = 150

    init(_ host: String, _ fleet: FleetConfiguration, _ repository: Repository, _ index: BlobIndex) throws {
        self.host = host
        self.fleet = fleet
        folder = repository.path
        limit = fleet.sizeLimit(of: host)
        before = limit == nil ? 0 : index.packBytes + Int64(index.count) * Self.listing
    }

    /// Throws when the host's limit is reached; `figures` is what this capture stored.
    func checkLimit(_ figures: BlobWriter.Figures?) throws {
        guard let limit else { return }
        let blobs = (figures?.dataBlobs ?? 0) + (figures?.treeBlobs ?? 0)
        let held = before + (figures?.storedBytes ?? 0) + Int64(blobs) * Self.listing
        if held >= limit {
            throw CaptureError.overLimit(
                "the repository of \(host) holds \(Human.bytes(held)), and `size_limit:` in fleet.yaml allows it "
                    + "\(Human.bytes(limit)): raise the limit and start the backup again, which goes on from here; "
                    + "older snapshots are unharmed"
            )
        }
    }

    /// Throws when too little space is free; it asks the file system.
    func checkFree() throws {
        let (free, total) = try Files.space(folder)
        let reserve = fleet.reserve(ofTotal: total)
        if free < reserve {
            throw CaptureError.noSpace(
                "only \(Human.bytes(Int64(clamping: free))) are free at \(folder), and `keep_free:` in fleet.yaml keeps "
                    + "\(Human.bytes(Int64(clamping: reserve))) of them: free some space there and start the backup "
                    + "again, which goes on from here; nothing that was stored is lost"
            )
        }
    }
}
