/** Ends a `switch` over a union: it does not compile where a member was left out. */
export function unreachable(value: never): never {
  throw new Error(`the service answered what its schema did not have: ${JSON.stringify(value)}`);
}
