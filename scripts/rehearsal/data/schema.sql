-- groups: stays in the monolith; only what the stand-in applications read
CREATE TABLE groups (
    id bigserial PRIMARY KEY,
    name varchar(255) NOT NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL
)

-- users: stays in the monolith; only what the stand-in applications read
CREATE TABLE users (
    id bigserial PRIMARY KEY,
    group_id bigint NULL CONSTRAINT users_group_id_foreign REFERENCES groups (id) ON DELETE SET NULL,
    username varchar(255) NOT NULL CONSTRAINT users_username_unique UNIQUE,
    name varchar(255) NOT NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL
)

-- tags: stays in the monolith; only what the stand-in applications read
CREATE TABLE tags (
    id bigserial PRIMARY KEY,
    user_id bigint NOT NULL CONSTRAINT tags_user_id_foreign REFERENCES users (id) ON DELETE CASCADE,
    name varchar(255) NOT NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL
)

-- task_proposals: stays in the monolith; only what the stand-in applications read
CREATE TABLE task_proposals (
    id bigserial PRIMARY KEY,
    user_id bigint NOT NULL CONSTRAINT task_proposals_user_id_foreign REFERENCES users (id) ON DELETE CASCADE,
    title varchar(255) NOT NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL
)

-- tasks: moves
CREATE TABLE tasks (
    id bigserial PRIMARY KEY,
    user_id bigint NOT NULL,
    source_proposal_id bigint NULL,
    assigned_by_user_id bigint NULL,
    approved_by_user_id bigint NULL,
    title varchar(255) NOT NULL,
    description text NULL,
    due_date varchar(255) NULL,
    span int NULL,
    priority smallint NOT NULL DEFAULT 3,
    group_task_id uuid NULL,
    reward int NULL,
    requires_approval bool DEFAULT false,
    requires_image bool DEFAULT false,
    approved_at timestamp(0) NULL,
    is_completed bool DEFAULT false,
    completed_at timestamp(0) NULL,
    deleted_at timestamp(0) NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL,
    CONSTRAINT tasks_user_id_foreign FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT tasks_source_proposal_id_foreign
        FOREIGN KEY (source_proposal_id) REFERENCES task_proposals (id) ON DELETE SET NULL,
    CONSTRAINT tasks_assigned_by_user_id_foreign
        FOREIGN KEY (assigned_by_user_id) REFERENCES users (id) ON DELETE SET NULL,
    CONSTRAINT tasks_approved_by_user_id_foreign
        FOREIGN KEY (approved_by_user_id) REFERENCES users (id) ON DELETE SET NULL
);

CREATE INDEX tasks_group_task_id_index ON tasks (group_task_id);

CREATE INDEX tasks_user_id_is_completed_due_date_priority_index
    ON tasks (user_id, is_completed, due_date, priority);

CREATE INDEX tasks_user_id_deleted_at_index ON tasks (user_id, deleted_at);

CREATE INDEX tasks_group_task_id_user_id_index ON tasks (group_task_id, user_id);

CREATE INDEX tasks_user_id_is_completed_completed_at_index ON tasks (user_id, is_completed, completed_at)

-- task_images: moves
CREATE TABLE task_images (
    id bigserial PRIMARY KEY,
    task_id bigint NOT NULL CONSTRAINT task_images_task_id_foreign REFERENCES tasks (id) ON DELETE CASCADE,
    file_path varchar(255) NOT NULL,
    approved_at timestamp(0) NULL,
    delete_at timestamp(0) NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL
)

-- task_tag: moves
CREATE TABLE task_tag (
    task_id bigint NOT NULL CONSTRAINT task_tag_task_id_foreign REFERENCES tasks (id) ON DELETE CASCADE,
    tag_id bigint NOT NULL CONSTRAINT task_tag_tag_id_foreign REFERENCES tags (id) ON DELETE CASCADE,
    PRIMARY KEY (task_id, tag_id)
)

-- scheduled_group_tasks: moves
CREATE TABLE scheduled_group_tasks (
    id bigserial PRIMARY KEY,
    group_id bigint NOT NULL,
    created_by bigint NOT NULL,
    title varchar(255) NOT NULL,
    description text NULL,
    requires_image bool,
    reward int DEFAULT 0,
    requires_approval bool,
    assigned_user_id bigint NULL,
    auto_assign bool,
    schedules json NOT NULL,
    due_duration_days int NULL,
    due_duration_hours int NULL,
    start_date date NOT NULL,
    end_date date NULL,
    skip_holidays bool,
    move_to_next_business_day bool,
    delete_incomplete_previous bool DEFAULT true,
    tags json NULL,
    is_active bool DEFAULT true,
    paused_at timestamp(0) NULL,
    deleted_at timestamp(0) NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL,
    CONSTRAINT scheduled_group_tasks_group_id_foreign
        FOREIGN KEY (group_id) REFERENCES groups (id) ON DELETE CASCADE,
    CONSTRAINT scheduled_group_tasks_created_by_foreign
        FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE CASCADE,
    CONSTRAINT scheduled_group_tasks_assigned_user_id_foreign
        FOREIGN KEY (assigned_user_id) REFERENCES users (id) ON DELETE SET NULL
);

CREATE INDEX scheduled_group_tasks_group_id_is_active_index ON scheduled_group_tasks (group_id, is_active);

CREATE INDEX scheduled_group_tasks_start_date_index ON scheduled_group_tasks (start_date);

CREATE INDEX scheduled_group_tasks_end_date_index ON scheduled_group_tasks (end_date)

-- scheduled_task_executions: moves
CREATE TABLE scheduled_task_executions (
    id bigserial PRIMARY KEY,
    scheduled_task_id bigint NOT NULL CONSTRAINT scheduled_task_executions_scheduled_task_id_foreign
        REFERENCES scheduled_group_tasks (id) ON DELETE CASCADE,
    executed_at timestamp(0) NOT NULL,
    status varchar(255) DEFAULT 'success'
        CONSTRAINT scheduled_task_executions_status_check CHECK (status IN ('success', 'failed', 'skipped')),
    created_task_id bigint NULL CONSTRAINT scheduled_task_executions_created_task_id_foreign
        REFERENCES tasks (id) ON DELETE SET NULL,
    deleted_task_id bigint NULL CONSTRAINT scheduled_task_executions_deleted_task_id_foreign
        REFERENCES tasks (id) ON DELETE SET NULL,
    note text NULL,
    error_message text NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL
);

CREATE INDEX scheduled_task_executions_scheduled_task_id_executed_at_index
    ON scheduled_task_executions (scheduled_task_id, executed_at);

CREATE INDEX scheduled_task_executions_status_index ON scheduled_task_executions (status)

-- scheduled_task_tags: moves
CREATE TABLE scheduled_task_tags (
    id bigserial PRIMARY KEY,
    scheduled_task_id bigint NOT NULL CONSTRAINT scheduled_task_tags_scheduled_task_id_foreign
        REFERENCES scheduled_group_tasks (id) ON DELETE CASCADE,
    tag_name varchar(255) NOT NULL,
    created_at timestamp(0) NULL, updated_at timestamp(0) NULL,
    CONSTRAINT scheduled_task_tags_scheduled_task_id_tag_name_unique UNIQUE (scheduled_task_id, tag_name)
);

CREATE INDEX scheduled_task_tags_tag_name_index ON scheduled_task_tags (tag_name)
