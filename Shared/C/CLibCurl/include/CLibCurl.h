// libcurl, loaded when it is first needed and not when the program starts: few processes ever send anything, and
// Debian's libcurl brings thirty more libraries along. Its functions are reached through those declared here (the
// variadic ones Swift could not call anyway); the constants are libcurl's own.
#pragma once
#include <curl/curl.h>

/// Loads the library once; any thread may ask. Returns NULL when it is there, else the loader's reason why not.
/// Everything below may be called only after this returned NULL.
const char *ccurl_load(void);

CURL *ccurl_easy_init(void);
void ccurl_easy_cleanup(CURL *handle);
CURLcode ccurl_easy_perform(CURL *handle);
const char *ccurl_easy_strerror(CURLcode code);

/// curl_easy_setopt(3), one function for each type of value.
CURLcode ccurl_set_long(CURL *handle, CURLoption option, long value);
CURLcode ccurl_set_text(CURL *handle, CURLoption option, const char *value);
CURLcode ccurl_set_pointer(CURL *handle, CURLoption option, void *value);
CURLcode ccurl_set_callback(
    CURL *handle, CURLoption option, size_t (*callback)(char *bytes, size_t size, size_t count, void *context));

/// curl_easy_getinfo(3) for numbers; 0 where the library has none.
long ccurl_get_long(CURL *handle, CURLINFO info);
curl_off_t ccurl_get_offset(CURL *handle, CURLINFO info);

struct curl_slist *ccurl_slist_append(struct curl_slist *list, const char *text);
void ccurl_slist_free_all(struct curl_slist *list);
