// Node's basic-ftp: one task in one session. Its dialogue goes to stderr, listings to stdout.
"use strict";
const fs = require("fs");

const [module_, host, port, tls, authority, user, password, folder, task, ...rest] =
    process.argv.slice(2);
const { Client } = require(module_);

const tasks = {
    names: async (client, path) => {
        for (const entry of await client.list(path)) process.stdout.write(entry.name + "\n");
    },
    upload: (client, local, remote) => client.uploadFrom(local, remote),
    download: (client, remote, local) => client.downloadTo(local, remote),
    resume_upload: async (client, local, remote) =>
        client.appendFrom(local, remote, { localStart: await client.size(remote) }),
    resume_download: (client, remote, local) =>
        client.downloadTo(local, remote, fs.statSync(local).size),
    mirror_up: (client, local, remote) => client.uploadFromDir(local, remote),
    mirror_down: (client, remote, local) => client.downloadToDir(local, remote),
    rename: (client, from, to) => client.rename(from, to),
    delete: (client, path) => client.remove(path),
};

async function main() {
    const client = new Client(20000);
    client.ftp.verbose = true;
    client.ftp.log = (line) => process.stderr.write(line + "\n");
    try {
        await client.access({
            host,
            port: Number(port),
            user,
            password,
            secure: { none: false, explicit: true, implicit: "implicit" }[tls],
            secureOptions: tls === "none" ? undefined : { ca: fs.readFileSync(authority) },
        });
        await client.cd(folder);
        await tasks[task](client, ...rest);
    } finally {
        client.close();
    }
}

main().catch((error) => {
    console.error(error);
    process.exitCode = 1;
});
