import Configuration
import Fleet
import Testing
import Wire

private func fleet(_ text: String) throws(ConfigurationError) -> FleetConfiguration {
    try FleetConfiguration(YAMLNode.parse(Array(text.utf8), file: "fleet.yaml"), file: "fleet.yaml")
}

private func refusal(_ text: String) -> String {
    do throws(ConfigurationError) { return "accepted: \(try fleet(text))" } catch { return error.description }
}

@Suite struct FleetConfigurationTests {
    @Test func `an empty file is a fleet with the defaults`() throws {
        #expect(try fleet("") == FleetConfiguration())
        #expect(FleetConfiguration().listen.map(\.description) == ["[::]:2222"])
    }

    @Test func `limits of size count for a host, else for all, and a disk keeps a reserve`() throws {
        let read = try fleet(
            "keep_free: 5 GB\ndefaults: { size_limit: 1 TB }\nhosts: { a: { size_limit: 20 GiB }, b: }\n"
        )
        #expect(read.sizeLimit(of: "a") == 20 << 30 && read.sizeLimit(of: "b") == 1_000_000_000_000)
        #expect(read.reserve(ofTotal: 1 << 40) == 5_000_000_000)
        let standard = try fleet("")
        #expect(standard.sizeLimit(of: "a") == nil)
        #expect(
            standard.reserve(ofTotal: 1 << 40) == 1 << 30 && standard.reserve(ofTotal: 1000 << 20) == 20 << 20
        )
        #expect(refusal("keep_free: much").contains("`keep_free` must be a size like 500 GB"))
    }

    @Test func `everything that may stand in the file is read`() throws {
        let read = try fleet(
            """
            state: /srv/state/
            repositories: /srv/repositories
            listen:
              - 192.168.1.5:22
              - "[fe80::1]:2222"
            address: nas.example
            catalogue: postgres://holdfast:secret@db/holdfast
            defaults: { scope: everything }
            hosts:
              lisbon: { scope: originals }
              porto:
            """
        )
        #expect(read.state == "/srv/state")
        #expect(read.repository(of: "porto") == "/srv/repositories/porto")
        #expect(
            read.listen == [Endpoint(host: "192.168.1.5", port: 22), Endpoint(host: "fe80::1", port: 2222)]
        )
        #expect(read.addresses == [Endpoint(host: "nas.example", port: 2222)])
        #expect(read.catalogue == "postgres://holdfast:secret@db/holdfast")
        #expect(read.scope(of: "lisbon") == .originals)
        #expect(read.scope(of: "porto") == .everything)
        #expect(read.scope(of: "unnamed") == .everything)
    }

    @Test func `repositories lie below the state unless told otherwise`() throws {
        #expect(try fleet("state: /x\n").repositories == "/x/repositories")
    }

    @Test func `an unknown key names the nearest known one`() {
        #expect(
            refusal("state: /x\nrepositorys: /y\n")
                == "fleet.yaml:2: unknown key `repositorys`: did you mean `repositories`?"
        )
        #expect(
            refusal("hosts:\n  a:\n    skope: x\n")
                == "fleet.yaml:3: unknown key `hosts.a.skope`: did you mean `scope`?"
        )
        #expect(
            refusal("defaults:\n  colour: blue\n")
                == "fleet.yaml:2: unknown key `defaults.colour`: known are `scope`, `size_limit`, `rate_limit`, "
                + "`priority`, `grace`, `ping`, `schedule`, `retention`, `thresholds`, `watch`, `outside`"
        )
    }

    @Test func `a wrong value says what would be right`() {
        #expect(
            refusal("defaults:\n  scope: all\n")
                == "fleet.yaml:2: `defaults.scope` must be originals or everything, not `all`"
        )
        #expect(
            refusal("state: here\n") == "fleet.yaml:1: `state` must be a path that starts with /, not `here`"
        )
        #expect(
            refusal("state: [a]\n") == "fleet.yaml:1: `state` must be a path that starts with /, not a list"
        )
        #expect(refusal("listen: ::1\n").hasPrefix("fleet.yaml:1: `listen` must be address:port"))
        #expect(refusal("listen: nas:70000\n").hasPrefix("fleet.yaml:1: `listen` must be address:port"))
        #expect(refusal("hosts: [a]\n") == "fleet.yaml:1: `hosts` must hold `key: value` lines, not a list")
        #expect(refusal("- a\n") == "fleet.yaml:1: the file must hold `key: value` lines, not a list")
        #expect(refusal("hosts:\n  ../x: {}\n").contains("a host's name is made of"))
    }

    @Test func `the catalogue's address is never quoted`() {
        let text = refusal("state: /x\ncatalogue: mysql://holdfast:secret@db/x\n")
        #expect(text == "fleet.yaml:2: `catalogue` must be a URL like postgres://user@host:5432/database")
    }

    @Test(arguments: ["", ".", "..", "-a", "A", "a/b", "a b", "ä", String(repeating: "a", count: 64)])
    func `names that are no host names are refused`(_ name: String) {
        #expect(HostName.problem(name) != nil)
    }

    @Test(arguments: ["a", "0", "immich-1.home_x"]) func `host names are taken`(_ name: String) {
        #expect(HostName.problem(name) == nil)
    }
}
