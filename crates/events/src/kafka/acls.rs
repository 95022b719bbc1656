//! Access rules, made, shown and taken away.
//!
//! Not here: what they mean (`security::acls`).

use std::sync::Arc;

use kafka_wire::{RequestHeader, Str, create_acls, delete_acls, describe_acls};

use super::errors::{self, code};
use super::{Front, Session};
use crate::security::acls::{ACLS_MAX, Acl, Filter, Operation, Pattern, PatternFilter, Resource};

const ANY: i8 = 1;
const MATCH: i8 = 2;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

pub(crate) async fn create(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: create_acls::Request,
) -> create_acls::Response {
    use create_acls::{AclCreationResult, Response};
    let failed = |error_code: i16, why: String| AclCreationResult {
        error_code,
        error_message: Some(why.into()),
    };
    if !front.may_cluster(session, Operation::Alter) {
        let each = request.creations.iter().map(|_| {
            failed(code::CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed.".to_owned())
        });
        return Response { results: each.collect(), ..Response::default() };
    }
    let room = ACLS_MAX.saturating_sub(front.guard.acls().len());
    let read: Vec<Result<Acl, String>> = request.creations.iter().map(rule).collect();
    let added: Vec<Acl> = read.iter().filter_map(|rule| rule.as_ref().ok()).cloned().collect();
    let kept = match added.len() > room {
        true => Err((code::POLICY_VIOLATION, format!("{ACLS_MAX} rules are the most."))),
        false => front
            .guard
            .set_acls(added, Vec::new())
            .await
            .map_err(|error| (errors::of_store(&error), error.to_string())),
    };
    let results = read.into_iter().map(|rule| match (rule, &kept) {
        (Err(why), _) => failed(code::INVALID_REQUEST, why),
        (Ok(_), Err((error_code, why))) => failed(*error_code, why.clone()),
        (Ok(_), Ok(())) => AclCreationResult::default(),
    });
    Response { results: results.collect(), ..Response::default() }
}

fn rule(said: &create_acls::AclCreation) -> Result<Acl, String> {
    let unknown = |what: &str, number: i8| format!("{number} is no {what} that a rule can have.");
    let pattern = match said.resource_pattern_type {
        3 => Pattern::Literal,
        4 => Pattern::Prefixed,
        other => return Err(unknown("type of pattern", other)),
    };
    let allow = match said.permission_type {
        DENY => false,
        ALLOW => true,
        other => return Err(unknown("permission", other)),
    };
    let acl = Acl {
        resource: Resource::numbered(said.resource_type)
            .ok_or_else(|| unknown("type of resource", said.resource_type))?,
        name: said.resource_name.to_string(),
        pattern,
        principal: said.principal.to_string(),
        host: said.host.to_string(),
        operation: Operation::numbered(said.operation)
            .ok_or_else(|| unknown("operation", said.operation))?,
        allow,
    };
    acl.check().map(|()| acl)
}

pub(crate) async fn describe(
    front: &Arc<Front>,
    _: &Arc<Session>,
    _: &RequestHeader,
    request: describe_acls::Request,
) -> describe_acls::Response {
    use describe_acls::{AclDescription, DescribeAclsResource, Response};
    let filter = filter(
        request.resource_type_filter,
        request.resource_name_filter.as_ref(),
        request.pattern_type_filter,
        request.principal_filter.as_ref(),
        request.host_filter.as_ref(),
        request.operation,
        request.permission_type,
    );
    let filter = match filter {
        Ok(filter) => filter,
        Err(why) => {
            let (error_code, error_message) = (code::INVALID_REQUEST, Some(why.into()));
            return Response { error_code, error_message, ..Response::default() };
        }
    };
    let acls = front.guard.acls();
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    // Rules come in the order of what they are about.
    for acl in acls.find(&filter) {
        let (kind, pattern) = (acl.resource as i8, acl.pattern as i8);
        let told = AclDescription {
            principal: acl.principal.as_str().into(),
            host: acl.host.as_str().into(),
            operation: acl.operation as i8,
            permission_type: if acl.allow { ALLOW } else { DENY },
        };
        match resources.last_mut() {
            Some(last)
                if (last.resource_type, last.pattern_type) == (kind, pattern)
                    && *last.resource_name == *acl.name =>
            {
                last.acls.push(told);
            }
            _ => resources.push(DescribeAclsResource {
                resource_type: kind,
                resource_name: acl.name.as_str().into(),
                pattern_type: pattern,
                acls: vec![told],
            }),
        }
    }
    Response { resources, ..Response::default() }
}

pub(crate) async fn delete(
    front: &Arc<Front>,
    session: &Arc<Session>,
    _: &RequestHeader,
    request: delete_acls::Request,
) -> delete_acls::Response {
    use delete_acls::{DeleteAclsFilterResult, DeleteAclsMatchingAcl, Response};
    let failed = |error_code: i16, why: String| DeleteAclsFilterResult {
        error_code,
        error_message: Some(why.into()),
        ..DeleteAclsFilterResult::default()
    };
    if !front.may_cluster(session, Operation::Alter) {
        let each = request.filters.iter().map(|_| {
            failed(code::CLUSTER_AUTHORIZATION_FAILED, "Cluster authorization failed.".to_owned())
        });
        return Response { filter_results: each.collect(), ..Response::default() };
    }
    let acls = front.guard.acls();
    let found: Vec<Result<Vec<Acl>, String>> = request
        .filters
        .iter()
        .map(|said| {
            let filter = filter(
                said.resource_type_filter,
                said.resource_name_filter.as_ref(),
                said.pattern_type_filter,
                said.principal_filter.as_ref(),
                said.host_filter.as_ref(),
                said.operation,
                said.permission_type,
            )?;
            Ok(acls.find(&filter).cloned().collect())
        })
        .collect();
    let removed = found.iter().flatten().flatten().cloned().collect();
    let kept = front.guard.set_acls(Vec::new(), removed).await;
    let kept = kept.map_err(|error| (errors::of_store(&error), error.to_string()));
    let results = found.into_iter().map(|found| match (found, &kept) {
        (Err(why), _) => failed(code::INVALID_REQUEST, why),
        (Ok(_), Err((error_code, why))) => failed(*error_code, why.clone()),
        (Ok(found), Ok(())) => DeleteAclsFilterResult {
            matching_acls: found
                .into_iter()
                .map(|acl| DeleteAclsMatchingAcl {
                    resource_type: acl.resource as i8,
                    resource_name: acl.name.into(),
                    pattern_type: acl.pattern as i8,
                    principal: acl.principal.into(),
                    host: acl.host.into(),
                    operation: acl.operation as i8,
                    permission_type: if acl.allow { ALLOW } else { DENY },
                    ..DeleteAclsMatchingAcl::default()
                })
                .collect(),
            ..DeleteAclsFilterResult::default()
        },
    });
    Response { filter_results: results.collect(), ..Response::default() }
}

fn filter(
    resource: i8,
    name: Option<&Str>,
    pattern: i8,
    principal: Option<&Str>,
    host: Option<&Str>,
    operation: i8,
    permission: i8,
) -> Result<Filter, String> {
    let unknown = |what: &str, number: i8| format!("{number} is no {what} that can be asked for.");
    let open = |number: i8| number == ANY;
    let resource = match resource {
        any if open(any) => None,
        number => {
            Some(Resource::numbered(number).ok_or_else(|| unknown("type of resource", number))?)
        }
    };
    let operation = match operation {
        any if open(any) => None,
        number => Some(Operation::numbered(number).ok_or_else(|| unknown("operation", number))?),
    };
    let pattern = match pattern {
        ANY => PatternFilter::Any,
        MATCH => PatternFilter::Match,
        3 => PatternFilter::Is(Pattern::Literal),
        4 => PatternFilter::Is(Pattern::Prefixed),
        other => return Err(unknown("type of pattern", other)),
    };
    let allow = match permission {
        any if open(any) => None,
        DENY => Some(false),
        ALLOW => Some(true),
        other => return Err(unknown("permission", other)),
    };
    let (principal, host) = (principal.map(Str::to_string), host.map(Str::to_string));
    let name = name.map(Str::to_string);
    Ok(Filter { resource, name, pattern, principal, host, operation, allow })
}
