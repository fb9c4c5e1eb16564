/**
 * What a program that a test starts sees of this process's environment: where programs are, and where
 * Node keeps what it has compiled (`scripts/test`), without which each start compiles all sources anew.
 */
const INHERITED = ['PATH', 'NODE_COMPILE_CACHE'] as const;

export const COMMAND_ENVIRONMENT: Readonly<Record<string, string>> = Object.fromEntries(
  INHERITED.flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value]];
  }),
);
