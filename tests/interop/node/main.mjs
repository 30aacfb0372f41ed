// node main.mjs <client> read <bootstrap> <records> <topic>...
// node main.mjs <client> work <bootstrap> <group> <topic> <assignor>

const [client, verb, bootstrap, ...rest] = process.argv.slice(2)
const clients = { kafkajs: './kafkajs.mjs', platformatic: './platformatic.mjs' }
const module = await import(clients[client])
if (verb === 'read') {
  const [records, ...topics] = rest
  await module.read(bootstrap, Number(records), topics)
  process.exit(0)
} else if (verb === 'work') {
  await module.work(bootstrap, ...rest)
} else {
  throw new Error(`no program for ${client} ${verb}`)
}
