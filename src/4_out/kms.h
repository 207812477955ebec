/* AWS Key Management Service as the key that wraps data keys (API 2014-11-01: Encrypt and Decrypt, JSON 1.1). The
 * context travels as encryption context, so a wrapped key opens for its own row alone. Opened data keys are
 * remembered for five minutes. */
#ifndef TL_KMS_H
#define TL_KMS_H

#include "../3_core/vault.h"

/* The key service of the settings, NULL when kms_key_id is empty. */
const struct vault_kek *kms_kek(void);

#endif
