import { expect, it } from 'vitest';
import { MAX_REPLICAS } from '../../dist/cli/flags.js';
import { MAX_REPLICAS as MOST_OF_AN_ENGINE } from '../../dist/deployments/config/resolve-deployment.js';

it('the command takes as many replicas as an engine does', () => {
  expect(MAX_REPLICAS).toBe(MOST_OF_AN_ENGINE);
});
