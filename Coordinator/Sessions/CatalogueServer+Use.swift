package import Catalogue

extension CatalogueServer {
    /// Opens the catalogue for as long as `body` takes: a few milliseconds more, and nothing is held by who waits.
    package func use<R>(_ body: (Catalogue) throws -> R) throws -> R {
        let catalogue = try open()
        defer { catalogue.close() }
        return try body(catalogue)
    }
}
