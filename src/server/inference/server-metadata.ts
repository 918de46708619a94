import { readFileSync } from 'node:fs';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** What the server says of itself, with the extensions of the protocol that it has. */
export const SERVER_METADATA = {
  name: 'infermux',
  version,
  extensions: [
    ...['binary_tensor_data', 'classification', 'generate', 'logging', 'model_configuration', 'model_repository'],
    ...['parameters', 'schedule_policy', 'statistics'],
  ],
} as const;
