import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { directory } from './directories.js';

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

export interface Certificates {
  /** Path of `ca.crt`, or of the key or certificate of a name. */
  file(name: string): string;
  /** Its text. */
  pem(name: string): string;
}

/** Makes a CA for a day, and keys with certificates of it for localhost and 127.0.0.1. */
export function makeCertificates(names: readonly string[]): Certificates {
  const files = directory();
  const openssl = (...args: readonly string[]) => execFileSync('openssl', args, { cwd: files, stdio: 'pipe' });
  openssl('req', '-x509', ...NEW_KEY, '-days', '1', '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=ca');
  writeFileSync(join(files, 'ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1');
  for (const name of names) {
    const [key, csr, crt] = ['key', 'csr', 'crt'].map((ending) => `${name}.${ending}`) as [string, string, string];
    openssl('req', ...NEW_KEY, '-keyout', key, '-out', csr, '-subj', `/CN=${name}`);
    const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1', '-extfile', 'ext'];
    openssl('x509', '-req', '-in', csr, ...signer, '-out', crt);
  }
  const file = (name: string) => join(files, name);
  return { file, pem: (name) => readFileSync(file(name), 'utf8') };
}
