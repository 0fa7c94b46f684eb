import Posix

/// Whether tests run with their full counts: HOLDFAST_LONG is 1, as `deploy/test --long` sets it.
package let isLong = environmentVariables()["HOLDFAST_LONG"] == "1"
