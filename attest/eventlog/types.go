package eventlog

import "fmt"

// Type is what an event says it is (PFP section 10.4.1, table 27). No digest
// covers it.
type Type uint32

// Types of events.
const (
	PrebootCert       Type = 0x00000000
	PostCode          Type = 0x00000001
	NoAction          Type = 0x00000003 // never extended
	Separator         Type = 0x00000004
	Action            Type = 0x00000005
	EventTag          Type = 0x00000006
	SCRTMContents     Type = 0x00000007
	SCRTMVersion      Type = 0x00000008
	CPUMicrocode      Type = 0x00000009
	PlatformConfig    Type = 0x0000000a
	TableOfDevices    Type = 0x0000000b
	CompactHash       Type = 0x0000000c
	IPL               Type = 0x0000000d // used by boot loaders: GRUB, systemd-stub
	IPLPartitionData  Type = 0x0000000e
	NonhostCode       Type = 0x0000000f
	NonhostConfig     Type = 0x00000010
	NonhostInfo       Type = 0x00000011
	OmitBootDevices   Type = 0x00000012
	PostCode2         Type = 0x00000013
	VariableDriver    Type = 0x80000001 // EV_EFI_VARIABLE_DRIVER_CONFIG
	VariableBoot      Type = 0x80000002
	BootServicesApp   Type = 0x80000003 // EV_EFI_BOOT_SERVICES_APPLICATION
	BootServicesDrv   Type = 0x80000004 // EV_EFI_BOOT_SERVICES_DRIVER
	RuntimeDriver     Type = 0x80000005
	GPT               Type = 0x80000006
	EFIAction         Type = 0x80000007
	FirmwareBlob      Type = 0x80000008
	HandoffTables     Type = 0x80000009
	FirmwareBlob2     Type = 0x8000000a
	HandoffTables2    Type = 0x8000000b
	VariableBoot2     Type = 0x8000000c
	GPT2              Type = 0x8000000d
	HCRTM             Type = 0x80000010
	VariableAuthority Type = 0x800000e0
	SPDMFirmwareBlob  Type = 0x800000e1
	SPDMFirmwareCfg   Type = 0x800000e2
)

var typeNames = map[Type]string{
	PrebootCert: "EV_PREBOOT_CERT", PostCode: "EV_POST_CODE", NoAction: "EV_NO_ACTION", Separator: "EV_SEPARATOR",
	Action: "EV_ACTION", EventTag: "EV_EVENT_TAG", SCRTMContents: "EV_S_CRTM_CONTENTS", SCRTMVersion: "EV_S_CRTM_VERSION",
	CPUMicrocode: "EV_CPU_MICROCODE", PlatformConfig: "EV_PLATFORM_CONFIG_FLAGS", TableOfDevices: "EV_TABLE_OF_DEVICES",
	CompactHash: "EV_COMPACT_HASH", IPL: "EV_IPL", IPLPartitionData: "EV_IPL_PARTITION_DATA", NonhostCode: "EV_NONHOST_CODE",
	NonhostConfig: "EV_NONHOST_CONFIG", NonhostInfo: "EV_NONHOST_INFO", OmitBootDevices: "EV_OMIT_BOOT_DEVICE_EVENTS",
	PostCode2: "EV_POST_CODE2", VariableDriver: "EV_EFI_VARIABLE_DRIVER_CONFIG", VariableBoot: "EV_EFI_VARIABLE_BOOT",
	BootServicesApp: "EV_EFI_BOOT_SERVICES_APPLICATION", BootServicesDrv: "EV_EFI_BOOT_SERVICES_DRIVER",
	RuntimeDriver: "EV_EFI_RUNTIME_SERVICES_DRIVER", GPT: "EV_EFI_GPT_EVENT", EFIAction: "EV_EFI_ACTION",
	FirmwareBlob: "EV_EFI_PLATFORM_FIRMWARE_BLOB", HandoffTables: "EV_EFI_HANDOFF_TABLES",
	FirmwareBlob2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", HandoffTables2: "EV_EFI_HANDOFF_TABLES2",
	VariableBoot2: "EV_EFI_VARIABLE_BOOT2", GPT2: "EV_EFI_GPT_EVENT2", HCRTM: "EV_EFI_HCRTM_EVENT",
	VariableAuthority: "EV_EFI_VARIABLE_AUTHORITY", SPDMFirmwareBlob: "EV_EFI_SPDM_FIRMWARE_BLOB", SPDMFirmwareCfg: "EV_EFI_SPDM_FIRMWARE_CONFIG",
}

func (t Type) String() string {
	if name := typeNames[t]; name != "" {
		return name
	}
	return fmt.Sprintf("event type %#08x", uint32(t))
}

// MarshalText gives the name in the specification.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a name in the specification.
func (t *Type) UnmarshalText(text []byte) error {
	for typ, name := range typeNames {
		if name == string(text) {
			*t = typ
			return nil
		}
	}
	return fmt.Errorf("event type %q is not known", text)
}
