#include "CLibCurl.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static __typeof__(curl_easy_init) *easy_init;
static __typeof__(curl_easy_cleanup) *easy_cleanup;
static __typeof__(curl_easy_perform) *easy_perform;
static __typeof__(curl_easy_strerror) *easy_strerror;
static CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
static CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
static __typeof__(curl_slist_append) *slist_append;
static __typeof__(curl_slist_free_all) *slist_free_all;
static __typeof__(curl_global_init) *global_init;

static char failure[512];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found && !failure[0]) snprintf(failure, sizeof failure, "%s", dlerror());
    return found;
}

static void load(void) {
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(failure, sizeof failure, "%s", dlerror());
        return;
    }
    easy_init = symbol(library, "curl_easy_init");
    easy_cleanup = symbol(library, "curl_easy_cleanup");
    easy_perform = symbol(library, "curl_easy_perform");
    easy_strerror = symbol(library, "curl_easy_strerror");
    easy_setopt = symbol(library, "curl_easy_setopt");
    easy_getinfo = symbol(library, "curl_easy_getinfo");
    slist_append = symbol(library, "curl_slist_append");
    slist_free_all = symbol(library, "curl_slist_free_all");
    global_init = symbol(library, "curl_global_init");
    if (!failure[0] && global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        snprintf(failure, sizeof failure, "curl_global_init failed");
}

const char *ccurl_load(void) {
    pthread_once(&once, load);
    return failure[0] ? failure : NULL;
}

CURL *ccurl_easy_init(void) { return easy_init(); }
void ccurl_easy_cleanup(CURL *handle) { easy_cleanup(handle); }
CURLcode ccurl_easy_perform(CURL *handle) { return easy_perform(handle); }
const char *ccurl_easy_strerror(CURLcode code) { return easy_strerror(code); }

CURLcode ccurl_set_long(CURL *handle, CURLoption option, long value) { return easy_setopt(handle, option, value); }
CURLcode ccurl_set_text(CURL *handle, CURLoption option, const char *value) {
    return easy_setopt(handle, option, value);
}
CURLcode ccurl_set_pointer(CURL *handle, CURLoption option, void *value) {
    return easy_setopt(handle, option, value);
}
CURLcode ccurl_set_callback(
    CURL *handle, CURLoption option, size_t (*callback)(char *bytes, size_t size, size_t count, void *context)) {
    return easy_setopt(handle, option, callback);
}

long ccurl_get_long(CURL *handle, CURLINFO info) {
    long value = 0;
    return easy_getinfo(handle, info, &value) == CURLE_OK ? value : 0;
}
curl_off_t ccurl_get_offset(CURL *handle, CURLINFO info) {
    curl_off_t value = 0;
    return easy_getinfo(handle, info, &value) == CURLE_OK ? value : 0;
}

struct curl_slist *ccurl_slist_append(struct curl_slist *list, const char *text) { return slist_append(list, text); }
void ccurl_slist_free_all(struct curl_slist *list) { slist_free_all(list); }
