#pragma once
#include <microhttpd.h>

// MHD_start_daemon takes its options as variable arguments, which Swift cannot call.
// Takes the listening socket over. One thread of its own answers, one request after the other.
static inline struct MHD_Daemon *cmicrohttpd_start(int listening, MHD_AccessHandlerCallback handler, void *context) {
    return MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, handler, context,
                            MHD_OPTION_LISTEN_SOCKET, listening,
                            MHD_OPTION_CONNECTION_LIMIT, 16u,
                            MHD_OPTION_CONNECTION_TIMEOUT, 15u,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384,
                            MHD_OPTION_END);
}
