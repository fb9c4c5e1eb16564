// Suites own real sockets, databases and tokens; two at a time is what a two-core machine carries.
export default {
  roots: ['<rootDir>/test'],
  testMatch: ['**/*.test.ts'],
  testEnvironment: '<rootDir>/test/environment.js',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: { parser: { syntax: 'typescript' }, target: 'es2024' },
        module: { type: 'es6' },
        sourceMaps: 'inline',
      },
    ],
  },
  // As the environment's, which raises the limits that tests name.
  testTimeout: 180_000,
  maxWorkers: 2,
  // Modules of a finished file stay in a worker's heap, and collecting that costs more with each file: a
  // worker above this is replaced by a new one between two files.
  workerIdleMemoryLimit: '500MB',
  testSequencer: '<rootDir>/test/longest-first.js',
};
