// A token issuer driven by lines of JSON on stdin, one answer a line on stdout:
// {"do":"start","port":0} {"do":"rotate","alg":"ES256"} {"do":"stop"} {"do":"token","claims":{...},"alg":"RS256"}
import readline from "node:readline";
import { OAuth2Server } from "oauth2-mock-server";

let server, port, kid;

async function start(wanted, algs) {
	server = new OAuth2Server();
	kid = {};
	for (const alg of algs)
		kid[alg] = (await server.issuer.keys.generate(alg)).kid;
	await server.start(wanted, "127.0.0.1");
	port = server.address().port;
	server.issuer.url = `http://127.0.0.1:${port}`;
	return { issuer: server.issuer.url, kid };
}

const commands = {
	start: (c) => start(c.port ?? 0, c.algs ?? ["RS256", "ES256", "EdDSA"]),
	async rotate(c) {
		await server.stop();
		return start(port, c.algs ?? ["RS256", "ES256", "EdDSA"]);
	},
	async stop() {
		await server.stop();
		return {};
	},
	async token(c) {
		const token = await server.issuer.buildToken({
			kid: kid[c.alg ?? "RS256"],
			scopesOrTransform: (header, payload) => {
				for (const name of Object.keys(payload))
					delete payload[name];
				Object.assign(payload, { iss: server.issuer.url }, c.claims);
			},
		});
		return { token };
	},
};

for await (const line of readline.createInterface({ input: process.stdin })) {
	const command = JSON.parse(line);
	console.log(JSON.stringify(await commands[command.do](command)));
}
process.exit(0);
