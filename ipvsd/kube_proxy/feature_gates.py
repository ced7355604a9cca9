"""The feature gates of Kubernetes as data, with the versions in which they exist. kube-proxy rejects all others.

The source for Kubernetes 1.20 to 1.31 is pkg/features/kube_features.go, with the gates of apiserver,
apiextensions-apiserver, client-go and component-base of the same version. The source for 1.32 to 1.36 is gardener's
pkg/utils/validation/features, which follows the published list of gates. For 1.37, only the gates of kube-proxy
itself are known. A gate that exists in the last known version is taken to exist in later ones.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from ipvsd.config import spelling
from ipvsd.config.profiles import IPVS_REMOVED, Version
from ipvsd.config.value_readers import shown

_FOREVER = (9, 0)
LAST_COMPLETE: Version = (1, 36)  # the last version all of whose gates are known

# NAME:SINCE:BEFORE:LOCKED, with the minor versions of Kubernetes. +23 is locked to true since 1.23, -23 to false.
_GATES = """
APIListChunking::33:+29 APIPriorityAndFairness::31:+29 APIResponseCompression APISelfSubjectReview:26:30:+28
APIServerIdentity APIServerTracing:22::+34 APIServingWithRoutine:30 AdmissionWebhookMatchConditions:27:33:+30
AdvancedAuditing::28:+27 AggregatedDiscoveryEndpoint:26:33:+30 AggregatedDiscoveryRemoveBetaType:33::+35 AllAlpha
AllBeta AllowDNSOnlyNodeCSR:31 AllowInsecureBackendProxy::23:+21 AllowInsecureKubeletCertificateSigningRequests:31
AllowOverwriteTerminationGracePeriodSeconds:32::-35 AllowParsingUserUIDFromCertAuth:33 AllowServiceExternalIPs:36
AllowServiceLBStatusOnNonLB:29:35:-32 AllowUnsafeMalformedObjectDeletion:32 AnonymousAuthConfigurableEndpoints:31::+34
AnyVolumeDataSource:::+33 AppArmor::33:+31 AppArmorFields:30:33:+31 AttachVolumeLimit::21:+20
AuthorizeNodeWithSelectors:31::+34 AuthorizePodWebsocketUpgradeCreatePermission:35 AuthorizeWithSelectors:31::+34
BalanceAttachedNodeVolumes::22 BlockVolume::21:+20 BoundServiceAccountTokenVolume::23:+22 BtreeWatchCache:32::+33
CBORServingAndStorage:32 CPUManager::33:+26 CPUManagerPolicyAlphaOptions:23 CPUManagerPolicyBetaOptions:23
CPUManagerPolicyOptions:22::+33 CRDObservedGenerationTracking:35 CRDValidationRatcheting:28::+33
CRIContainerLogRotation::22:+21 CRIListStreaming:36 CSIBlockVolume::21:+20 CSIDriverRegistry::21:+20
CSIInlineVolume::27:+25 CSIMigration::27:+25 CSIMigrationAWS::27:+25 CSIMigrationAWSComplete::21
CSIMigrationAzureDisk::27:+25 CSIMigrationAzureDiskComplete::21 CSIMigrationAzureFile::30:+27
CSIMigrationAzureFileComplete::21 CSIMigrationGCE::28:+25 CSIMigrationGCEComplete::21 CSIMigrationOpenStack::26:+24
CSIMigrationOpenStackComplete::21 CSIMigrationPortworx:23:36:+33 CSIMigrationRBD:24:31 CSIMigrationvSphere::29:+27
CSIMigrationvSphereComplete::22 CSINodeExpandSecret:25:31:+29 CSINodeInfo::21:+20 CSIServiceAccountToken::25:+22
CSIServiceAccountTokenSecrets:35::+36 CSIStorageCapacity::28:+24 CSIVolumeFSGroupPolicy::25:+23 CSIVolumeHealth:21
CSRDuration:22:26:+24 ChangeContainerStatusOnKubeletRestart:35 ClearingNominatedNodeNameAfterBinding:34
CloudControllerManagerWatchBasedRoutesReconciliation:35 CloudControllerManagerWebhook:27
CloudDualStackNodeIPs:27:32:+30 ClusterTrustBundle:27 ClusterTrustBundleProjection:29 ComponentFlagz:32
ComponentSLIs:26:35 ComponentStatusz:32 ConcurrentWatchObjectDecode:31 ConfigurableFSGroupPolicy::25:+23
ConsistentHTTPGetHandlers:26:31:+30 ConsistentListFromCache:28::+34 ConstrainedImpersonation:35 ContainerCheckpoint:25
ContainerRestartRules:34 ContainerStopSignals:33 ContextualLogging:25::+30 ControllerManagerLeaderMigration:22:27:+24
ControllerManagerReleaseLeaderElectionLockOnExit:36 CoordinatedLeaderElection:31 CronJobControllerV2::23:+22
CronJobTimeZone:24:29:+27 CronJobsScheduledAnnotation:28:35:+32 CrossNamespaceVolumeDataSource:26
CustomCPUCFSQuotaPeriod CustomResourceFieldSelectors:30::+32 CustomResourceValidationExpressions:23:31:+29
DRAAdminAccess:32::+36 DRAConsumableCapacity:34 DRAControlPlaneController:31:32 DRADeviceBindingConditions:34
DRADeviceTaintRules:35 DRADeviceTaints:33 DRAExtendedResource:34 DRAListTypeAttributes:36
DRANodeAllocatableResources:36 DRAPartitionableDevices:33 DRAPrioritizedList:33 DRAResourceClaimDeviceStatus:32
DRAResourceClaimGranularStatusAuthorization:36 DRAResourcePoolStatus:36 DRASchedulerFilterTimeout:34
DRAWorkloadResourceClaims:36 DaemonSetUpdateSurge:21:27:+25 DeclarativeValidation:33::+36 DeclarativeValidationBeta:36
DeclarativeValidationTakeover:33 DefaultHostNetworkHostPortsInPodTemplates:28:31 DefaultPodTopologySpread::26:+24
DelegateFSGroupToCSIDriver:22:28:+26 DeploymentReplicaSetTerminatingReplicas:33 DetectCacheInconsistency:34
DevicePluginCDIDevices:28:34:+31 DevicePlugins::28:+26 DisableAcceleratorUsageMetrics::28:+25
DisableAllocatorDualWrite:31::+35 DisableCPUQuotaWithExclusiveCPUs:33 DisableCloudProviders:22:33:+31
DisableKubeletCloudCredentialProviders:23:33:+31 DisableNodeKubeProxyVersion:29::+36 DownwardAPIHugePages::29:+27
DryRun::28:+26 DynamicKubeletConfig::26 DynamicResourceAllocation:26::+35 EfficientWatchResumption::33:+24
ElasticIndexedJob:27:34:+31 EndpointSlice::25:+21 EndpointSliceNodeName::25:+21 EndpointSliceProxying::25:+22
EndpointSliceTerminatingCondition::28:+26 EnvFiles:34 EphemeralContainers::27:+25 EvenPodsSpread::21:+20
EventedPLEG:26 ExecProbeTimeout:::+35 ExpandCSIVolumes::27 ExpandInUsePersistentVolumes::27
ExpandPersistentVolumes::27 ExpandedDNSConfig:22:30:+28 ExperimentalHostUserNamespaceDefaulting::30:-28
ExtendWebSocketsToKubelet:36 ExternalPolicyForExternalIP::22:+20 ExternalServiceAccountTokenSigner:32::+36
GRPCContainerProbe:23:29:+27 GangScheduling:35 GenericEphemeralVolume::25:+23 GenericWorkload:35
GitRepoVolumeDriver:33::-36 GracefulNodeShutdown GracefulNodeShutdownBasedOnPodPriority:23 HPAConfigurableTolerance:33
HPAContainerMetrics::32:+30 HPAScaleToZero HonorPVReclaimPolicy:23:36:+33 HostnameOverride:34
HugePageStorageMediumSize::24:+22 HyperVContainer::21 IPTablesOwnershipCleanup:25:30:+28 IPv6DualStack::25:+23
IdentifyPodOS:23:27:+25 ImageMaximumGCAge:29::+35 ImageVolume:31::+36 ImageVolumeWithDigest:36
ImmutableEphemeralVolumes::24:+21 InPlacePodLevelResourcesVerticalScaling:35 InPlacePodVerticalScaling:27::+35
InPlacePodVerticalScalingAllocatedStatus:32:36 InPlacePodVerticalScalingExclusiveCPUs:32
InPlacePodVerticalScalingExclusiveMemory:34 InPlacePodVerticalScalingInitContainers:36 InTreePluginAWSUnregister:21:31
InTreePluginAzureDiskUnregister:21:31 InTreePluginAzureFileUnregister:21:31 InTreePluginGCEUnregister:21:31
InTreePluginOpenStackUnregister:21:31 InTreePluginPortworxUnregister:23:36 InTreePluginRBDUnregister:23:31
InTreePluginvSphereUnregister:21:31 IndexedJob:21:26:+24 InformerResourceVersion:30
IngressClassNamespacedParams:21:25:+23 JobBackoffLimitPerIndex:28::+33 JobManagedBy:30::+35
JobMutableNodeSchedulingDirectives:23:29:+27 JobPodFailurePolicy:25:33:+31 JobPodReplacementPolicy:28::+34
JobReadyPods:23:31:+29 JobSuccessPolicy:30::+33 JobTrackingWithFinalizers:22:29:+26 KMSv1:28 KMSv2:25:32:+29
KMSv2KDF:28:32:+29 KubeProxyDrainingTerminatingNodes:28:33:+31 KubeProxyIPVS:37 KubeProxyNFTablesLocalhostNodePorts:37
KubeletCgroupDriverFromCRI:28::+34 KubeletCrashLoopBackOffMax:32 KubeletCredentialProviders::28:+26
KubeletEnsureSecretPulledImages:33 KubeletFineGrainedAuthz:32::+36 KubeletInUserNamespace:22 KubeletPSI:33::+36
KubeletPodResources::30:+28 KubeletPodResourcesDynamicResources:27::+36 KubeletPodResourcesGet:27::+36
KubeletPodResourcesGetAllocatable:21:30:+28 KubeletPodResourcesListUseActivePods:34
KubeletRegistrationGetOnExistsOnly:32 KubeletSeparateDiskGC:29 KubeletServiceAccountTokenForCredentialProviders:33
KubeletTracing:25::+34 LegacyNodeRoleBehavior::22:-21 LegacyServiceAccountTokenCleanUp:28:32:+30
LegacyServiceAccountTokenNoAutoGeneration:24:29:+27 LegacyServiceAccountTokenTracking:26:30:+28
LegacySidecarContainers:33:34 ListFromCacheSnapshot:33 LoadBalancerIPMode:29:35:+32
LocalStorageCapacityIsolation::27:+25 LocalStorageCapacityIsolationFSQuotaMonitoring LogarithmicScaleDown:21::+31
LoggingAlphaOptions:25:32 LoggingBetaOptions:25:32 ManifestBasedAdmissionControlConfig:36
MatchLabelKeysInPodAffinity:29::+33 MatchLabelKeysInPodTopologySpread:25
MatchLabelKeysInPodTopologySpreadSelectorMerge:34 MaxUnavailableStatefulSet:24 MemoryManager:21:36:+32 MemoryQoS:22
MinDomainsInPodTopologySpread:24:32:+30 MinimizeIPTablesRestore:26:30:+28 MixedProtocolLBService::28:+26
MultiCIDRRangeAllocator:25:29 MultiCIDRServiceAllocator:27::+34 MutableCSINodeAllocatableCount:33::+36
MutablePVNodeAffinity:35 MutablePodResourcesForSuspendedJobs:35 MutableSchedulingDirectivesForSuspendedJobs:35
MutatingAdmissionPolicy:30 NFTablesProxyMode:29::+33 NamespaceDefaultLabelName:21:24:+22 NativeHistograms:36
NetworkPolicyEndPort:21:27:+25 NetworkPolicyStatus:24:28 NewVolumeManagerReconstruction:27:32:+30
NodeDeclaredFeatures:35 NodeDisruptionExclusion::22:+21 NodeInclusionPolicyInPodTopologySpread:25::+33
NodeLease::23:+20 NodeLogQuery:27::+36 NodeOutOfServiceVolumeDetach:24:32:+28 NodeSwap:22::+34
NominatedNodeNameForExpectation:34 NonPreemptingPriority::26:+24 OpenAPIEnums:23 OpenAPIV3:23:29:+27
OpportunisticBatching:35 OrderedNamespaceDeletion:30::+34 PDBUnhealthyPodEvictionPolicy:26:33:+31
PLEGOnDemandRelist:36 PersistentVolumeClaimUnusedSinceTime:36 PersistentVolumeLastPhaseTransitionTime:28:33:+31
PodAffinityNamespaceSelector:21:26:+24 PodAndContainerStatsFromCRI:23 PodCertificateRequest:34 PodDeletionCost:21
PodDisruptionBudget::25:+21 PodDisruptionConditions:25:34:+31 PodHasNetworkCondition:25:28 PodHostIPs:28:32:+30
PodIndexLabel:28:35:+32 PodLevelResourceManagers:36 PodLevelResources:32 PodLifecycleSleepAction:29::+34
PodLifecycleSleepActionAllowZero:32::+34 PodLogsQuerySplitStreams:32 PodObservedGenerationTracking:33::+35
PodOverhead::26:+24 PodReadyToStartContainersCondition:28 PodSchedulingReadiness:26::+30 PodSecurity:22:28:+25
PodTopologyLabelsAdmission:33 PodsAPI:36 PortForwardWebsockets:30 PreferAlignCpusByUncoreCache:32
PreferNominatedNode:21:26:+24 PreferSameTrafficDistribution:33::+35 PreventStaticPodAPIReferences:34
ProbeHostPodSecurityStandards:34:35:+34 ProbeTerminationGracePeriod:21:29:+28 ProcMountType:::+36
ProxyTerminatingEndpoints:22:30:+28 QOSReserved ReadWriteOncePod:22:31:+29 RecoverVolumeExpansionFailure:23::+34
RecursiveReadOnlyMounts:30::+33 ReduceDefaultCrashLoopBackOffDecay:33 RelaxedDNSSearchValidation:32::+34
RelaxedEnvironmentVariableValidation:30::+34 RelaxedServiceNameValidation:34 ReloadKubeletClientCAFile:36
ReloadKubeletServerCertificateFile:31 RemainingItemCount::33:+29 RemoteRequestHeaderUID:32 RemoveSelfLink::30:+24
ResilientWatchCacheInitialization:31::+34 ResourceHealthStatus:31 ResourceHealthStatusMessage:36
RestartAllContainersOnContainerExits:35 RetroactiveDefaultStorageClass:25:29:+28 RetryGenerateName:30::+32
RootCAConfigMap::22:+21 RotateKubeletClientCertificate::21:+20 RotateKubeletServerCertificate RunAsGroup::22:+21
RuntimeClass::24:+20 RuntimeClassInImageCriApi:29 SCTPSupport::22:+20 SELinuxChangePolicy:32::+36 SELinuxMount:30
SELinuxMountReadWriteOncePod:25::+29 SchedulerAsyncAPICalls:34 SchedulerAsyncPreemption:32 SchedulerPopFromBackoffQ:33
SchedulerQueueingHints:28::+34 SeccompDefault:22:29:+27 SecurityContextDeny:27:30 SelectorIndex::25:+20
SeparateCacheWatchRPC:28::-36 SeparateTaintEvictionController:29::+34 ServerSideApply::32:+26
ServerSideFieldValidation:23:32:+27 ServiceAccountIssuerDiscovery::23:+21 ServiceAccountNodeAudienceRestriction:32
ServiceAccountTokenJTI:29::+32 ServiceAccountTokenNodeBinding:29::+33 ServiceAccountTokenNodeBindingValidation:29::+32
ServiceAccountTokenPodNodeInfo:29::+32 ServiceAppProtocol::22:+20 ServiceCIDRStatusFieldWiping:36
ServiceIPStaticSubrange:24:28:+26 ServiceInternalTrafficPolicy:21:28:+26 ServiceLBNodePortControl::26:+24
ServiceLoadBalancerClass:21:26:+24 ServiceNodeExclusion::22:+21 ServiceNodePortStaticSubrange:27:31:+29
ServiceTopology::22 ServiceTrafficDistribution:30:36:+33 SetHostnameAsFQDN::24:+22 ShardedListAndWatch:36
SidecarContainers:28::+33 SizeBasedListCostEstimate:34 SizeMemoryBackedVolumes::35:+32 SkipReadOnlyValidationGCE:28:31
StableLoadBalancerNodeSet:27:32:+30 StaleControllerConsistencyDaemonSet:36 StaleControllerConsistencyJob:36
StaleControllerConsistencyReplicaSet:36 StaleControllerConsistencyStatefulSet:36 StartupProbe::23:+20
StatefulSetAutoDeletePVC:23:35:+32 StatefulSetMinReadySeconds:22:27:+25 StatefulSetStartOrdinal:26:34:+31
StorageCapacityScoring:33 StorageNamespaceIndex:30 StorageObjectInUseProtection::25:+23 StorageVersionAPI
StorageVersionHash StorageVersionMigrator:30 StreamingCollectionEncodingToJSON:33::+34
StreamingCollectionEncodingToProtobuf:33::+34 StreamingProxyRedirects::24 StrictCostEnforcementForVAP:30:35:+32
StrictCostEnforcementForWebhooks:30:35:+32 StrictIPCIDRValidation:33 StructuredAuthenticationConfiguration:29::+34
StructuredAuthenticationConfigurationEgressSelector:34 StructuredAuthenticationConfigurationJWKSMetrics:35
StructuredAuthorizationConfiguration:29:36:+32 SupplementalGroupsPolicy:31::+35 SupportIPVSProxyMode::20
SupportNodePidsLimit::23:+20 SupportPodPidsLimit::23:+20 SuspendJob:21:26:+24 Sysctls::23:+21 SystemdWatchdog:32::+35
TTLAfterFinished::25:+23 TaintTolerationComparisonOperators:35 TokenRequest::21:+20 TokenRequestProjection::21:+20
TokenRequestServiceAccountUIDValidation:34 TopologyAwareHints:21:36:+33 TopologyAwareWorkloadScheduling:36
TopologyManager::29:+27 TopologyManagerPolicyAlphaOptions:26 TopologyManagerPolicyBetaOptions:26
TopologyManagerPolicyOptions:26::+32 TranslateStreamCloseWebsocketRequests:29 UnauthenticatedHTTP2DOSMitigation:26
UnknownVersionInteroperabilityProxy:28 UserNamespacesHostNetworkSupport:35 UserNamespacesPodSecurityStandards:29:35
UserNamespacesStatelessPodsSupport:25:28 UserNamespacesSupport:28::+36 ValidateProxyRedirects::24
ValidatingAdmissionPolicy:26:32:+30 VolumeAttributesClass:29::+36 VolumeCapacityPriority:21:33 VolumeLimitScaling:35
VolumePVCDataSource::21:+20 VolumeSnapshotDataSource::22:+20 VolumeSubpath::25:+23 WarningHeaders::24:+22
WatchBookmark::33:+20 WatchCacheInitializationPostStartHook:31 WatchFromStorageWithoutResourceVersion:27:36:-33
WatchList:27 WatchListClient:30 WinDSR:::+34 WinOverlay:::+34 WindowsCPUAndMemoryAffinity:32
WindowsEndpointSliceProxying::25:+22 WindowsGMSA::21:+20 WindowsGracefulNodeShutdown:32 WindowsHostNetwork:26
WindowsHostProcessContainers:22:28:+26 WindowsRunAsUserName::21:+20 WorkloadAwarePreemption:36 WorkloadWithJob:36
ZeroLimitedNominalConcurrencyShares:29:32:+30 csiMigrationRBD:23:24
"""
# Gates of kube-proxy, with the reason for their removal.
_REASONS: Mapping[str, str] = {
    "IPv6DualStack": "dual stack is stable since 1.23",
    "SupportIPVSProxyMode": "IPVS mode is stable since 1.11",
    "EndpointSliceProxying": "it is stable since 1.22",
}


class Gate(NamedTuple):
    """A gate exists from version `since` on and before version `before`. From `locked` on, its value is fixed."""

    since: Version
    before: Version
    locked: Version
    value: bool


@functools.cache
def gates() -> Mapping[str, Gate]:
    """Return all known gates by their names."""
    found = {}
    for text in _GATES.split():
        name, since, before, locked = (*text.split(":"), "", "", "")[:4]
        last = (1, int(before)) if before else _FOREVER
        lock = (1, int(locked[1:])) if locked else _FOREVER
        found[name] = Gate((1, int(since or 0)), last, lock, not locked.startswith("-"))
    return found


@functools.lru_cache(maxsize=64)
def closest(name: str, version: Version) -> str:
    """Return the gate that a name probably means, or an empty text."""
    existing = [other for other, gate in gates().items() if gate.since <= version < gate.before]
    plain = name.strip().lower()
    close = next((other for other in existing if other.lower() == plain), None)
    return close or (spelling.nearest(name, existing, 0.8) if len(name) < 80 else None) or ""


def may_be_newer(name: str, version: Version) -> bool:
    """Return whether a name can be that of a gate that is newer than this list, and not another spelling of one."""
    return version > LAST_COMPLETE and name.strip().lower() not in {known.lower() for known in gates()}


def check(name: str, enabled: bool, version: Version) -> str:
    """Return the problem of a gate, or an empty text."""
    unknown = f"unknown feature gate {shown(name)}"
    if name not in gates():
        return unknown
    gate = gates()[name]
    if version < gate.since:
        return "{}: exists since {}.{}, not in {}.{}".format(unknown, *gate.since, *version)
    if version >= gate.before:
        reason = f" ({_REASONS[name]})" if name in _REASONS else ""
        return "{} since {}.{}{}".format(unknown, *gate.before, reason)
    if name == "KubeProxyIPVS" and version >= IPVS_REMOVED:
        gate = gate._replace(locked=IPVS_REMOVED, value=False)
    if version >= gate.locked and enabled is not gate.value:
        value = str(gate.value).lower()
        return "feature gate {} is locked to {} since {}.{}".format(shown(name), value, *gate.locked)
    return ""
