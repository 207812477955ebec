/* Starting points: what agencies are asked for most. */
#include "agents.h"

static const struct {
	const char *id, *name, *description, *system_prompt, *first_message;
} templates[] = {
	{ "receptionist", "Receptionist", "Answers, finds out what the caller wants, takes a message.",
		"You are the receptionist of {{company}}. Greet the caller, find out their name and what they need, answer what you "
		"know about {{company}}, and take a message with a number to call back when you cannot help. Be brief and friendly. "
		"Never invent facts.",
		"Hello, this is {{company}}. How can I help you?" },
	{ "appointment-reminder", "Appointment reminder", "Confirms or moves an appointment.",
		"You call {{name}} about the appointment on {{date}} at {{time}} with {{company}}. Say who you are, ask whether the "
		"time still fits, and note a wish to move or cancel it. If somebody else answers, say nothing of the appointment and "
		"ask when to call again.",
		"Hello, this is {{company}} calling for {{name}}." },
	{ "lead-qualification", "Lead qualification", "Asks a few questions and offers a meeting.",
		"You call {{name}}, who asked about {{product}}. Ask whether it is a good moment. Find out need, budget and time frame "
		"with one question at a time, then offer a meeting with {{salesperson}}. If they are not interested or ask not to be "
		"called, thank them and end the call.", "Hi {{name}}, this is {{company}}. You asked about {{product}}; is now a good moment?" },
	{ "survey", "Survey", "Three questions after a service.",
		"You ask {{name}} three questions about {{service}} by {{company}}: how satisfied they were from 1 to 5, what was best,"
		" what should be better. Ask one at a time, do not argue, thank them and end the call within two minutes.",
		"Hello {{name}}, this is {{company}}. May I ask you three short questions?" },
	{ "after-hours", "After-hours support", "Sorts urgent from can-wait at night.",
		"You answer for {{company}} outside office hours. Find out what happened and whether it is urgent by these rules: "
		"{{urgent_rules}}. Urgent: promise a call back within {{minutes}} minutes and take the number. Otherwise: say when the "
		"office opens and take a message.",
		"This is {{company}}. The office is closed, but I can help you right away." },
};

static const struct shape_field template_fields[] = {
	{ "id", SHAPE_TEXT },
	{ "name", SHAPE_TEXT },
	{ "description", SHAPE_TEXT },
	{ "system_prompt", SHAPE_TEXT, .doc = "with {{variables}} that a call's context fills in" },
	{ "settings", SHAPE_OBJECT },
};
static const struct shape template_shape = SHAPE("agent_template", template_fields);
static const struct shape_field templates_fields[] = { { "templates", SHAPE_LIST, .sub = &template_shape } };
const struct shape agent_templates_shape = SHAPE("agent_templates", templates_fields);

enum fault agent_templates(struct req *req)
{
	struct buf b = BUF_IN(req->arena, 65536);
	size_t n = sizeof templates / sizeof *templates;
	buf_text(&b, "{\"templates\":[");
	for (size_t i = 0; i < n; i++) {
		buf_format(&b, "%s{\"id\":\"%s\",\"name\":\"%s\",\"description\":", i ? "," : "", templates[i].id, templates[i].name);
		buf_json(&b, str_of(templates[i].description));
		buf_text(&b, ",\"system_prompt\":");
		buf_json(&b, str_of(templates[i].system_prompt));
		buf_text(&b, ",\"settings\":{\"first_message\":");
		buf_json(&b, str_of(templates[i].first_message));
		buf_text(&b, "}}");
	}
	buf_text(&b, "]}");
	reply_json(req, 200, buf_view(&b));
	return OK;
}
