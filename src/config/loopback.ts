/** Whether only this host can reach `host`. */
export const isLoopback = (host: string): boolean =>
  host === 'localhost' ||
  host === '::1' ||
  host === '[::1]' ||
  /^127\.(?:\d{1,3}\.){2}\d{1,3}$/u.test(host);
