export default {
  testEnvironment: 'node',
  // ES modules need no transform.
  transform: {},
  testMatch: ['**/*.test.mjs'],
};
