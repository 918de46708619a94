import { createSecureContext } from 'node:tls';
import { check, checkOptions, isText, type Rule } from '../common/checks.js';
import { messageOf } from '../common/errors.js';
import { InfermuxError } from '../index.js';

/** TLS for both protocols: PEM texts. */
export interface TlsOptions {
  readonly key: string;
  readonly cert: string;
  /**
   * Certificates of the authorities that sign the clients' certificates. With it, each client needs one: mutual TLS.
   */
  readonly ca?: string | undefined;
}

const RULES: Readonly<Record<keyof TlsOptions, Rule>> = { key: isText, cert: isText, ca: isText };

/** @throws InfermuxError `INVALID_ARGUMENT` for texts that are no PEM, or a key that is another certificate's. */
export function checkTls(where: string, tls: TlsOptions): void {
  const { key, cert, ca } = checkOptions(where, tls, RULES);
  check(`${where}.key`, key, isText);
  check(`${where}.cert`, cert, isText);
  try {
    createSecureContext({ key, cert, ca });
  } catch (cause) {
    const message = `${where}: key, cert and ca must be PEM texts that fit each other: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}
