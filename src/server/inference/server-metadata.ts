import { PACKAGE_VERSION } from '../../common/package-version.js';

/** The server's name, and the package's version. */
export const SERVER_NAME = { name: 'infermux', version: PACKAGE_VERSION } as const;

/** What the server says of itself. */
export interface ServerMetadata {
  readonly name: string;
  readonly version: string;
  /** Those of the protocol that it has. */
  readonly extensions: readonly string[];
}

/** @param hasAdmin whether the admin part is at the same address. */
export function serverMetadata(hasAdmin: boolean): ServerMetadata {
  const always = ['binary_tensor_data', 'classification', 'generate', 'model_configuration', 'parameters'];
  const admin = hasAdmin ? ['logging', 'model_repository'] : [];
  return { ...SERVER_NAME, extensions: [...always, 'schedule_policy', 'statistics', ...admin].sort() };
}
