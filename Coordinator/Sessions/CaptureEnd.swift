import Catalogue
import Glibc
import Posix
import Postgres
import Repository
import SSH
import Wire

/// Why a capture ended without a snapshot: for the run's row, and for people with what to do next.
struct CaptureEnd {
    let state: RunRow.State
    let failure: RunRow.Failure
    let reason: String

    /// - Parameters:
    ///   - stopping: This process was told to stop, whatever else that broke.
    ///   - phase: Where the capture was.
    init(_ error: any Error, stopping: Bool = false, phase: CaptureReport.Phase = .start) {
        if stopping {
            self.init(.interrupted, .stopped, "\(CaptureError.stopping)")
            return
        }
        switch error {
        case let error as SystemCallError:
            let (failure, advice) = Self.advice(error.code)
            self.init(.failed, failure, "\(error)\(advice.map { "; \($0)" } ?? "")")
        case let error as RepositoryError:
            if case .locked = error {
                // As when another coordinator holds the host: it is somebody else's turn.
                self.init(.cancelled, .locked, "\(error)")
            } else {
                self.init(.failed, .storage, "\(error)")
            }
        case let error as PasswordUnreadable:
            let advice = Self.advice(error.error.code).1
            self.init(.failed, .storage, "\(error)\(advice.map { "; \($0)" } ?? "")")
        case is PostgresError, is CatalogueError:
            self.init(
                .failed,
                .catalogue,
                "\(error); see `holdfast-coordinator status`: nothing that was stored is lost, and the next "
                    + "backup goes on from here"
            )
        case CaptureError.agent: self.init(.failed, phase == .dump ? .dump : .agent, "\(error)")
        case CaptureError.overLimit: self.init(.failed, .limit, "\(error)")
        case CaptureError.noSpace: self.init(.failed, .space, "\(error)")
        case CaptureError.cancelled: self.init(.cancelled, .cancelled, "\(error)")
        case CaptureError.silent: self.init(.interrupted, .connection, "\(error)")
        case CaptureError.refused, CaptureError.tooWide: self.init(.failed, .agent, "\(error)")
        case CaptureError.stopping: self.init(.interrupted, .stopped, "\(error)")
        case WireError.closed, is SSHError: self.init(.interrupted, .connection, "\(error)")
        case is WireError: self.init(.failed, .agent, "\(error)")
        default: self.init(.failed, .other, "\(error)")
        }
    }

    private init(_ state: RunRow.State, _ failure: RunRow.Failure, _ reason: String) {
        self.state = state
        self.failure = failure
        self.reason = reason
    }

    /// What to do about a call that failed on a repository.
    private static func advice(_ code: Int32) -> (RunRow.Failure, String?) {
        let next = "nothing that was stored is lost, and the next backup goes on from here"
        return switch code {
        case ENOSPC: (.space, "free some space there (or inodes, if `df -i` shows none): \(next)")
        case EDQUOT: (.space, "free some space there or raise the quota: \(next)")
        case EROFS:
            (
                .storage,
                "the file system is read-only: if `dmesg` shows why, mend that and mount it again; \(next)"
            )
        case EIO:
            (
                .storage,
                "the disk failed, `dmesg` shows how: once that is mended, `holdfast-coordinator check HOST "
                    + "--read-data` tells whether anything was damaged"
            )
        case EMFILE, ENFILE:
            (.storage, "too many files are open: raise LimitNOFILE= of the service (`ulimit -n`); \(next)")
        case ENOMEM: (.storage, "there was not enough memory: \(next)")
        case EACCES, EPERM:
            (.storage, "look at owner and mode: the service's user must be able to write there")
        case ENOENT, ENOTDIR, ESTALE, ENODEV, ENXIO: (.storage, "is the disk with the repositories mounted?")
        default: (.storage, nil)
        }
    }
}
