import { fileURLToPath } from 'node:url';

/** The models that come with the package. */
export const OWN_MODELS = fileURLToPath(new URL('../../../native-models', import.meta.url));
