/** For commands whose output is their result: what the HSM has to say is in its status. */
const nothing = (): void => undefined;

export const SILENT = { info: nothing, warn: nothing, error: nothing };
