// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target compiles with these; a warning fails the build.
let house: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

/// A module map over an installed C library; `pkg` is its pkg-config name, `apt` its Debian package.
func cLibrary(_ name: String, pkg: String, apt: String) -> Target {
    .systemLibrary(name: name, path: "Shared/C/\(name)", pkgConfig: pkg, providers: [.apt([apt])])
}

func lastComponent(_ path: String) -> String { String(path.split(separator: "/").last ?? "") }

func module(_ path: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(
        name: lastComponent(path),
        dependencies: dependencies,
        path: path,
        exclude: documents(path),
        swiftSettings: house
    )
}

/// Documents that sit beside the code they describe.
func documents(_ path: String) -> [String] { path == "Shared/Wire" ? ["protocol.md"] : [] }

func program(_ path: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: lastComponent(path),
        dependencies: dependencies,
        path: path,
        swiftSettings: house
    )
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .testTarget(
        name: name,
        dependencies: dependencies,
        path: "Tests/\(name)",
        resources: resources,
        swiftSettings: house
    )
}

let package = Package(
    name: "holdfast",
    products: [
        .executable(name: "holdfast-agent", targets: ["holdfast-agent"]),
        .executable(name: "holdfast-coordinator", targets: ["holdfast-coordinator"]),
    ],
    targets: [
        // C libraries, and the calls of Linux that Swift does not import.
        .target(name: "CLinux", path: "Shared/C/CLinux"),
        cLibrary("CLibSSH", pkg: "libssh", apt: "libssh-dev"),
        cLibrary("CLibPQ", pkg: "libpq", apt: "libpq-dev"),
        cLibrary("CLibCrypto", pkg: "libcrypto", apt: "libssl-dev"),
        cLibrary("CZstd", pkg: "libzstd", apt: "libzstd-dev"),
        cLibrary("CMicroHTTPD", pkg: "libmicrohttpd", apt: "libmicrohttpd-dev"),
        cLibrary("CLibYAML", pkg: "yaml-0.1", apt: "libyaml-dev"),
        // Loaded when it is needed, so not linked: only libcurl4-openssl-dev's headers are.
        .target(name: "CLibCurl", path: "Shared/C/CLibCurl"),

        // What both programs need.
        module("Shared/Posix", ["CLinux"]),
        module("Shared/JSON"),
        module("Shared/Arguments", ["Posix", "JSON"]),
        module("Shared/Configuration", ["Posix", "CLibYAML"]),
        module("Shared/Immich"),
        module("Shared/Digest", ["CLibCrypto"]),
        module("Shared/Outward", ["Posix", "JSON", "Configuration", "Digest", "CLibCurl"]),
        module("Shared/Wire", ["Digest"]),
        module("Shared/SSH", ["Posix", "Wire", "CLibSSH"]),
        module("Shared/Repository", ["Posix", "JSON", "Digest", "CLibCrypto", "CZstd"]),
        module("Shared/Restore", ["Posix", "JSON", "Arguments", "Digest", "Wire"]),
        module("Shared/Postgres", ["Posix", "CLibPQ"]),

        // The agent: neither libpq nor libzstd nor a repository is linked into it.
        module("Agent/Capture", ["Posix", "JSON", "Immich", "Wire", "SSH"]),
        program(
            "Agent/holdfast-agent",
            [
                "Capture", "Restore", "Arguments", "Configuration", "Immich", "Outward", "Posix", "JSON",
                "SSH",
                "Wire",
            ]
        ),

        // The coordinator.
        module("Coordinator/Schedule", ["Posix"]),
        module("Coordinator/Retention", ["Posix", "Repository", "Wire"]),
        module("Coordinator/Fleet", ["Configuration", "Outward", "Wire", "Schedule", "Retention"]),
        module("Coordinator/Catalogue", ["Posix", "Fleet", "Outward", "Postgres", "Wire"]),
        module("Coordinator/Metrics", ["Posix", "Catalogue", "Fleet", "Postgres", "Wire", "CMicroHTTPD"]),
        module("Coordinator/Scheduling", ["Posix", "Fleet", "Schedule", "Catalogue", "Postgres"]),
        module(
            "Coordinator/Health",
            ["Posix", "JSON", "Arguments", "Postgres", "Fleet", "Catalogue"]
        ),
        module("Coordinator/Alarms", ["Posix", "JSON", "Arguments", "Fleet", "Catalogue", "Outward"]),
        module("Coordinator/Retrieval", ["Posix", "Digest", "Wire", "Repository", "Restore"]),
        module(
            "Coordinator/Sessions",
            [
                "Posix", "JSON", "Arguments", "Immich", "Wire", "SSH", "Repository", "Retrieval", "Restore",
                "Postgres",
                "Catalogue", "Fleet", "Retention", "Health",
            ]
        ),
        program(
            "Coordinator/holdfast-coordinator",
            [
                "Sessions", "Scheduling", "Alarms", "Catalogue", "Metrics", "Fleet", "Retention", "Schedule",
                "Restore", "Retrieval", "Repository", "Postgres", "Outward", "SSH",
                "Wire",
                "Immich",
                "Configuration", "Health", "Arguments", "JSON", "Posix",
            ]
        ),

        // Tests.
        .target(
            name: "TestSupport",
            dependencies: ["Posix", "JSON"],
            path: "Tests/TestSupport",
            swiftSettings: house
        ),
        .executableTarget(
            name: "holdfast-benchmark",
            dependencies: [
                "Arguments", "Catalogue", "Fleet", "JSON", "Posix", "Postgres", "Repository", "SSH",
                "TestSupport",
                "Wire",
            ],
            path: "Tests/Benchmarks",
            swiftSettings: house
        ),
        .executableTarget(
            name: "holdfast-fuzz",
            dependencies: [
                "Arguments", "Capture", "Configuration", "Fleet", "Immich", "JSON", "Posix", "Repository",
                "SSH", "Sessions", "TestSupport", "Wire",
            ],
            path: "Tests/Fuzz",
            swiftSettings: house
        ),
        tests("PosixTests", ["Posix", "TestSupport"]),
        tests("JSONTests", ["JSON", "TestSupport"]),
        tests("ArgumentsTests", ["Arguments", "TestSupport"]),
        tests(
            "ConfigurationTests",
            ["Configuration", "Fleet", "Posix", "Retention", "Schedule", "Wire", "TestSupport"]
        ),
        tests("OutwardTests", ["Outward", "Configuration", "JSON", "Posix", "TestSupport"]),
        tests(
            "AlarmsTests",
            [
                "Alarms", "Catalogue", "Configuration", "Fleet", "JSON", "Outward", "Postgres", "Posix",
                "TestSupport",
            ]
        ),
        tests("WireTests", ["Wire", "Digest", "TestSupport"]),
        tests("SSHTests", ["SSH", "Wire", "Posix", "TestSupport"]),
        .target(name: "CReadFaults", path: "Tests/CReadFaults"),
        tests(
            "RepositoryTests",
            [
                "Repository", "Restore", "Retrieval", "Digest", "Wire", "JSON", "Posix", "TestSupport",
                "CReadFaults",
            ],
            resources: [.copy("Vectors")]
        ),
        tests("CatalogueTests", ["Catalogue", "Fleet", "Postgres", "Posix", "TestSupport"]),
        tests("MetricsTests", ["Metrics", "Catalogue", "Fleet", "Posix", "TestSupport", "Wire"]),
        tests(
            "ScheduleTests",
            [
                "Schedule", "Scheduling", "Retention", "Repository", "Catalogue", "Fleet", "Postgres", "Wire",
                "Posix", "TestSupport",
            ]
        ),
        tests(
            "HealthTests",
            [
                "Health", "Catalogue", "Fleet", "Postgres", "Schedule", "Configuration", "Wire", "Posix",
                "TestSupport",
            ]
        ),
        tests(
            "RetentionTests",
            ["Retention", "Repository", "JSON", "Posix", "Wire", "TestSupport"],
            resources: [.copy("Vectors")]
        ),
        tests("CaptureTests", ["Capture", "Immich", "JSON", "Posix", "SSH", "Wire", "TestSupport"]),
        tests("Integration", ["TestSupport", "JSON", "Posix", "Repository", "Retrieval", "SSH", "Wire"]),
    ],
    swiftLanguageModes: [.v6]
)
