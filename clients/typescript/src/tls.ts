/** How a connection is made by TLS. */
import { X509Certificate, createPrivateKey } from "node:crypto";

import { refuse } from "./endpoint.js";

/** What is said of TLS, in PEM. */
export interface Tls {
  /** Who vouches for the service. Default: whom Node trusts. */
  ca?: string | Buffer;
  /** What to show a service that asks for it. */
  cert?: string | Buffer;
  /** The key of that certificate. */
  key?: string | Buffer;
}

/** Returns `tls`; throws SettingInvalid for what Node would take, and then never connect with. It is not shown. */
export function checkTls(tls: Tls): Tls {
  const { ca, cert, key } = tls;
  if ((cert === undefined) !== (key === undefined)) {
    throw refuse("tls", "a certificate and its key belong together: set both `tls.cert` and `tls.key`");
  }
  check("`tls.ca` holds no certificate in PEM", () => ca === undefined || new X509Certificate(ca));
  if (cert !== undefined && key !== undefined) {
    check("`tls.cert` holds no certificate in PEM", () => new X509Certificate(cert));
    check("`tls.key` is not the key, in PEM without password, of the certificate `tls.cert`", () =>
      new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)),
    );
  }
  return tls;
}

/** Throws SettingInvalid where `finds` finds nothing, or throws. */
function check(message: string, finds: () => unknown): void {
  let cause: unknown;
  try {
    if (finds()) {
      return;
    }
  } catch (error) {
    cause = error;
  }
  throw refuse("tls", message, cause);
}
