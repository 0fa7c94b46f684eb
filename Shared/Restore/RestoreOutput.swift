package import Arguments
import JSON
import Glibc
import Posix

/// What both programs show of a restore.
package enum RestoreOutput {
    /// Shows how far it is.
    package static func show(_ progress: RestoreProgress, on display: ProgressDisplay) {
        display.show(
            "restoring",
            done: progress.bytes,
            of: progress.totalBytes,
            "\(Human.count(progress.files)) of \(Human.count(progress.totalFiles)) files"
        )
    }

    /// The end, for people or with `asJSON` for programs; problems go to stderr either way.
    ///
    /// - Parameters:
    ///   - time: Nanoseconds since 1970-01-01T00:00:00Z: of what time the data are.
    ///   - took: Nanoseconds.
    package static func tell(
        _ report: RestoreReport,
        snapshot: String,
        time: Int64,
        target: String,
        took: Int64,
        asJSON: Bool
    ) -> ExitCode {
        if asJSON {
            let head: [(String, JSON)] = [
                ("snapshot", JSON(snapshot)), ("time", JSON(Time.rfc3339(time))), ("target", JSON(target)),
                ("seconds", JSON(Double(took) / 1e9)),
            ]
            put(JSON(head + report.fields).text(pretty: true) + "\n")
        } else {
            let kept =
                report.filesKept == 0
                ? "" : "; \(Human.count(report.filesKept)) of them were there already and right"
            put(
                "\(Human.count(report.files)) files, \(Human.bytes(report.bytes)), of snapshot \(snapshot.prefix(8)) "
                    + "(data of \(Time.local(time))) are in \(target), read back and right\(kept); "
                    + "\(Human.duration(nanoseconds: took))\n"
            )
            for limit in report.limitations { put("  \(limit)\n", to: STDERR_FILENO) }
        }
        for problem in report.problems.prefix(100) { put("  \(problem)\n", to: STDERR_FILENO) }
        if report.problemCount > 100 {
            put("  and \(report.problemCount - 100) more\n", to: STDERR_FILENO)
        }
        if !report.isWhole {
            put("  once that is mended, the same command tries again what is missing\n", to: STDERR_FILENO)
        }
        return report.isWhole ? .done : .damaged
    }

    /// The exit status of a restore that could not be done or did not get to its end.
    package static func code(_ error: RestoreError) -> ExitCode {
        switch error {
        case .notEnoughSpace: .noSpace
        case .targetInUse: .locked
        case .interrupted: .interrupted
        case .nothingReadable: .damaged
        case .targetNotEmpty, .targetOfAnother, .targetNotAFolder, .notInSnapshot, .targetFailed, .ended:
            .failed
        }
    }
}
