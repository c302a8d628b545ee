// Plain TAP lines: `ok - NAME` or `not ok - NAME`, and an exit code that says whether all held.

/** Runs `test`; a failed assertion or any other exception is a `not ok` with its trace. Returns its value. */
export async function check(name, test) {
  try {
    const value = await test()
    console.log(`ok - ${name}`)
    return value
  } catch (error) {
    process.exitCode = 1
    console.log(`not ok - ${name}`)
    for (const line of String(error.stack ?? error).split('\n')) console.log(`# ${line}`)
    if (error.cause) console.log(`# cause: ${JSON.stringify(error.cause)}`)
    return undefined
  }
}

/** True when `test` throws; the verifiers refuse by exception. */
export async function refuses(test) {
  try {
    await test()
  } catch {
    return true
  }
  return false
}
