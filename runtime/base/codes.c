/* Names and texts of result codes, and the version: the parts of <pica/base.h> that need no
 * runtime. */
#include <pica/base.h>
#include <pica/names.h>

#include <string.h>

static const struct {
    int code;
    const char *name;
    const char *text;
} codes[] = {
    {PICA_EINVALSTATE, "PICA_EINVALSTATE", "the future is already done, or not done yet"},
    {PICA_ECLOSED, "PICA_ECLOSED", "the object was closed"},
    {PICA_ENOTASK, "PICA_ENOTASK", "this call can only be made from a task"},
    {PICA_EFORKED, "PICA_EFORKED", "the runtime belongs to the parent of a fork"},
    {PICA_EINCOMPLETE, "PICA_EINCOMPLETE", "the stream ended before enough bytes came"},
    {PICA_ESHUTDOWN, "PICA_ESHUTDOWN", "the queue was shut down"},
    {PICA_EAI_NONAME, "PICA_EAI_NONAME", "host or service not known"},
    {PICA_EAI_AGAIN, "PICA_EAI_AGAIN", "no answer from the name server this time"},
    {PICA_EAI_FAIL, "PICA_EAI_FAIL", "the name server failed"},
    {PICA_EAI_NODATA, "PICA_EAI_NODATA", "the host has no address of this family"},
    {PICA_EAI_SERVICE, "PICA_EAI_SERVICE", "the service is not there for this type of socket"},
    {PICA_ECANCELED, "ECANCELED", "cancelled"},
    {PICA_ETIMEDOUT, "ETIMEDOUT", "timed out"},
};

const char *pica_strerror(int code) {
    if (code >= 0) {
        return "success";
    }
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i].code == code) {
            return codes[i].text;
        }
    }
    /* Static text without locale, hence without a buffer: safe on every thread. */
    const char *text = code > -4096 ? strerrordesc_np(-code) : NULL;
    return text == NULL ? "unknown error" : text;
}

const char *pica_err_name(int code) {
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i].code == code) {
            return codes[i].name;
        }
    }
    const char *name = code < 0 && code > -4096 ? strerrorname_np(-code) : NULL;
    return name == NULL ? "unknown" : name;
}

const char *pica_version(void) {
    return PICA_VERSION_STRING;
}
